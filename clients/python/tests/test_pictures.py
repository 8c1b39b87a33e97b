"""The stream that resumes, against a server that breaks streams on purpose."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1 import contact_service_pb2_grpc as contact_grpc
from hypersender_grpc_client import pictures

# Seconds; far above what a call takes, so that only a stream that hangs reaches it.
PATIENCE = 30


class Breaker(contact_grpc.ContactServiceServicer):
    """Call number n is answered by function n, and later ones by the last."""

    def __init__(self, *answers):
        self.answers = answers
        self.asked = []

    def StreamProfilePictures(self, request, context):
        answer = self.answers[min(len(self.asked), len(self.answers) - 1)]
        self.asked.append(request)
        yield from answer(request, context)


def result(request, index):
    found = contact.ProfilePictureResult(index=index, requested_chat_id=request.chat_ids[index])
    return contact.StreamProfilePicturesResponse(result=found)


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
        if pushback:
            context.set_trailing_metadata([("grpc-retry-pushback-ms", pushback)])
        if not reason:
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
        context.abort_with_status(rpc_status.to_status(status))

    return end


@pytest.fixture
def start():
    """Start a server with the given answers, and return it with a stub."""
    ends = []

    def start(*answers):
        breaker = Breaker(*answers)
        pool = ThreadPoolExecutor(4)
        server = grpc.server(pool)
        contact_grpc.add_ContactServiceServicer_to_server(breaker, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        ends.extend([channel.close, lambda: server.stop(0).wait(), pool.shutdown])
        return breaker, contact_grpc.ContactServiceStub(channel)

    yield start
    for end in ends:
        end()


def numbers(count):
    ids = [str(15552000000 + index) for index in range(count)]
    known = {chat_id: f"known of {chat_id}" for chat_id in ids}
    return contact.StreamProfilePicturesRequest(instance="one", chat_ids=ids, known_fingerprints=known)


def collect(stub, request, **options):
    """Run a stream to its end, and check that no id has two results, nor that of another."""
    seen = set()
    for message in pictures.stream(stub, request, timeout=PATIENCE, **options):
        found = message.result
        assert found.index not in seen
        assert request.chat_ids[found.index] == found.requested_chat_id
        seen.add(found.index)
    return len(seen)


CODE = grpc.StatusCode
AGAIN = fails(CODE.UNAVAILABLE, "OVERLOADED", 1)


def twice(request, _):
    yield result(request, 0)
    yield result(request, 0)


@pytest.mark.parametrize(
    ("first", "missed"),
    [
        pytest.param(results(3, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 1)), 7, id="the server stops"),
        pytest.param(results(4, fails(CODE.UNAVAILABLE)), 6, id="the connection breaks"),
        pytest.param(results(4, fails(CODE.INTERNAL)), 6, id="a proxy resets the stream"),
        pytest.param(results(4, fails(CODE.CANCELLED)), 6, id="a proxy cancels the stream"),
        pytest.param(results(4, fails(CODE.ABORTED)), 6, id="a proxy aborts the stream"),
        pytest.param(results(4, fails(CODE.UNKNOWN)), 6, id="a proxy gives no trailers"),
        pytest.param(
            results(4, fails(CODE.INTERNAL, "LIMIT", domain="proxy.example.com")), 6, id="a proxy has reasons of its own"
        ),
        pytest.param(results(9, fails(CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")), 1, id="the longest stream"),
        pytest.param(results(0, fails(CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", 1)), 10, id="too many streams"),
        pytest.param(results(5), 5, id="the stream ends early"),
        pytest.param(twice, 9, id="a result comes twice"),
    ],
)
def test_a_broken_stream_is_resumed(start, first, missed):
    breaker, stub = start(first, results(10))
    assert collect(stub, numbers(10)) == 10
    _, again = breaker.asked
    assert (len(again.chat_ids), again.instance) == (missed, "one")
    assert dict(again.known_fingerprints) == {chat_id: f"known of {chat_id}" for chat_id in again.chat_ids}


def test_calls_have_at_most_10000_ids(start):
    breaker, stub = start(results(10_000))
    assert collect(stub, numbers(20_001)) == 20_001
    assert [len(request.chat_ids) for request in breaker.asked] == [10_000, 10_000, 1]


@pytest.mark.parametrize(
    ("end", "calls"),
    [
        pytest.param(AGAIN, 3, id="no result three times"),
        pytest.param(fails(CODE.UNAVAILABLE, pushback="1"), 3, id="no result three times, after a pushback"),
        pytest.param(fails(CODE.UNAVAILABLE, pushback="-1"), 1, id="pushback says no"),
        pytest.param(fails(CODE.FAILED_PRECONDITION, "INSTANCE_NOT_CONNECTED"), 1, id="not connected"),
        pytest.param(fails(CODE.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE"), 1, id="the message is too large"),
        pytest.param(fails(CODE.UNIMPLEMENTED), 1, id="the server lacks the method"),
    ],
)
def test_a_stream_gives_up(start, end, calls):
    breaker, stub = start(results(0, end))
    with pytest.raises(grpc.RpcError):
        collect(stub, numbers(2), attempts=3)
    assert len(breaker.asked) == calls


def test_a_call_with_a_result_is_no_failed_attempt(start):
    # The last call has its result and breaks all the same.
    breaker, stub = start(results(1, AGAIN))
    assert collect(stub, numbers(8), attempts=2) == 8
    assert len(breaker.asked) == 8


def test_the_wait_of_the_server_is_obeyed(start):
    _, stub = start(results(1, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 1500)), results(2))
    waits = []
    begin = time.monotonic()
    assert collect(stub, numbers(2), on_broken=lambda failure, wait: waits.append((failure.reason, wait))) == 2
    [(reason, wait)] = waits
    assert (reason, 1.5 <= wait <= time.monotonic() - begin) == ("SERVER_STOPPING", True)


def hangs(left):
    def answer(request, context):
        context.add_callback(left.set)
        yield result(request, 1)
        left.wait(PATIENCE)

    return answer


def test_a_silent_stream_is_resumed(start):
    breaker, stub = start(hangs(threading.Event()), results(2))
    broken = []
    assert collect(stub, numbers(2), silence=0.2, on_broken=lambda failure, _: broken.append(failure.message)) == 2
    assert (len(breaker.asked), broken) == (2, ["the stream sent nothing for 0.2 s"])


def test_the_caller_can_stop(start):
    left = threading.Event()
    breaker, stub = start(hangs(left))
    messages = pictures.stream(stub, numbers(2))
    next(messages)
    messages.close()
    assert left.wait(PATIENCE), "the call goes on"
    assert len(breaker.asked) == 1


def test_the_timeout_is_for_all_calls(start):
    breaker, stub = start(results(1, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 3_600_000)))
    with pytest.raises(grpc.RpcError) as raised:
        for _ in pictures.stream(stub, numbers(2), timeout=PATIENCE):
            pass
    # There is no time left for the wait of an hour.
    assert (pictures.explain(raised.value).reason, len(breaker.asked)) == ("SERVER_STOPPING", 1)


@pytest.mark.parametrize(
    ("failure", "text"),
    [
        (("OVERLOADED", 1.5, "busy"), "UNAVAILABLE OVERLOADED, try again in 1.5s: busy"),
        (("OVERLOADED", 0, ""), "UNAVAILABLE OVERLOADED"),
        (("", 0, "refused"), "UNAVAILABLE: refused"),
        (("", 0, ""), "UNAVAILABLE"),
    ],
)
def test_a_failure_has_a_text(failure, text):
    assert str(pictures.Failure(CODE.UNAVAILABLE, *failure)) == text


def test_progress_is_that_of_all_calls(start):
    def answer(request, _):
        yield result(request, 0)
        yield contact.StreamProfilePicturesResponse(progress=contact.StreamProgress(done=1, total=9))

    _, stub = start(answer)
    messages = [message.progress for message in pictures.stream(stub, numbers(2)) if message.HasField("progress")]
    assert [(progress.done, progress.total) for progress in messages] == [(1, 2), (2, 2)]
