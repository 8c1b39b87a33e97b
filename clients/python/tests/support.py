"""What several tests use: both clients behind one face, and a server whose answers a test chooses."""

import asyncio
import base64
import gc
import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hypersender.contact import AsyncContactClient, ContactClient
from hypersender.contact.v1 import contact_service_pb2 as pb
from hypersender.contact.v1 import contact_service_pb2_grpc as pb_grpc

# Seconds; far above what a start, a call or a stop takes, so that only something that hangs reaches it.
PATIENCE = 30

CODE = grpc.StatusCode


def vectors(name):
    """The rows of clients/vectors, with which every client package is tested."""
    path = Path(__file__).parents[2] / "vectors" / f"{name}.json"
    return json.loads(path.read_bytes())[name]


def status_of(row):
    return status_pb2.Status.FromString(base64.b64decode(row["status"]))


def numbers(count):
    """Made-up numbers. The sandbox has a picture of each."""
    return [str(15552000000 + index) for index in range(count)]


class Threads:
    """Opens clients for threads."""

    def __init__(self):
        self.clients = []

    def __call__(self, target, **options):
        self.clients.append(ContactClient(target, **options))
        return self.clients[-1]

    def close(self):
        for client in self.clients:
            client.close()


class Loop:
    """Opens clients for asyncio that a test calls like the others: the loop runs during each call.

    An error that asyncio could only log fails the test.
    """

    def __init__(self):
        self.loop, self.clients, self.faults = asyncio.new_event_loop(), [], []
        self.loop.set_exception_handler(lambda _, context: self.faults.append(context))

    def __call__(self, target, **options):
        self.clients.append(Blocking(AsyncContactClient(target, **options), self.loop))
        return self.clients[-1]

    def close(self):
        for client in self.clients:
            client.close()
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())
        self.clients.clear()
        gc.collect()
        left = [task for task in asyncio.all_tasks(self.loop) if not task.done()]
        if left:
            self.loop.run_until_complete(asyncio.wait(left, timeout=PATIENCE))
        self.loop.close()
        assert not self.faults


class Blocking:
    """An AsyncContactClient without `await`."""

    def __init__(self, client, loop):
        self.client, self.loop = client, loop

    def run(self, awaitable):
        return self.loop.run_until_complete(asyncio.wait_for(awaitable, PATIENCE))

    def get_profile_picture(self, *arguments, **options):
        return self.run(self.client.get_profile_picture(*arguments, **options))

    def batch_get_profile_pictures(self, *arguments, **options):
        return self.run(self.client.batch_get_profile_pictures(*arguments, **options))

    def stream_profile_pictures(self, *arguments, **options):
        return self.read(self.client.stream_profile_pictures(*arguments, **options))

    def read(self, results):
        try:
            while True:
                try:
                    yield self.run(anext(results))
                except StopAsyncIteration:
                    return
        finally:
            self.run(results.aclose())

    def close(self):
        self.run(self.client.close())


class Servicer(pb_grpc.ContactServiceServicer):
    """Function n answers call n, and the last one answers later calls. For a stream it is a generator."""

    def __init__(self, *answers):
        self.answers = answers
        self.asked, self.metadata = [], []

    def answer(self, request, context):
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        return answer(request, context)

    GetProfilePicture = BatchGetProfilePictures = answer

    def StreamProfilePictures(self, request, context):
        yield from self.answer(request, context)


class Servers:
    """Starts servers with the answers of a Servicer."""

    def __init__(self):
        self.ends = []

    def __call__(self, *answers, credentials=None, address="127.0.0.1:0"):
        servicer, pool = Servicer(*answers), ThreadPoolExecutor(8)
        server = grpc.server(pool)
        pb_grpc.add_ContactServiceServicer_to_server(servicer, server)
        port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
        server.start()
        servicer.address, servicer.stop = f"127.0.0.1:{port}", lambda: server.stop(0).wait()
        self.ends.extend([servicer.stop, pool.shutdown])
        return servicer

    def close(self):
        for end in self.ends:
            end()


def found(request, _):
    """The answer of GetProfilePicture for any contact."""
    picture = pb.ProfilePicture(chat_id=request.chat_id, state=pb.PROFILE_PICTURE_STATE_PRESENT, url="https://secret/")
    return pb.GetProfilePictureResponse(profile_picture=picture)


def result(request, index):
    picture = pb.ProfilePicture(state=pb.PROFILE_PICTURE_STATE_NOT_AVAILABLE)
    found = pb.ProfilePictureResult(index=index, requested_chat_id=request.chat_ids[index], profile_picture=picture)
    return pb.StreamProfilePicturesResponse(result=found)


def results(number, end=None):
    """Send a result for the first `number` ids, the last one first, and then end the call with `end`."""

    def answer(request, context):
        for index in reversed(range(min(number, len(request.chat_ids)))):
            yield result(request, index)
        if end:
            end(context)

    return answer


def fails(code, reason="", milliseconds=0, pushback=None, domain="hypersender-grpc"):
    """The end of a call with an error. One with a reason is from the service, and may carry RetryInfo."""

    def end(context):
        trailers = [("grpc-retry-pushback-ms", pushback)] if pushback else []
        if not reason:
            context.set_trailing_metadata(trailers)
            context.abort(code, "broken")
        details = [error_details_pb2.ErrorInfo(reason=reason, domain=domain)]
        if milliseconds:
            wait = Duration()
            wait.FromMilliseconds(milliseconds)
            details.append(error_details_pb2.RetryInfo(retry_delay=wait))
        status = status_pb2.Status(code=code.value[0])
        for detail in details:
            packed = Any()
            packed.Pack(detail)
            status.details.append(packed)
        known = rpc_status.to_status(status)
        context.abort_with_status(known._replace(trailing_metadata=(*known.trailing_metadata, *trailers)))

    return end
