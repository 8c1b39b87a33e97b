"""What only the client for asyncio must do: pass cancellation on, belong to a loop, leave nothing behind."""

import asyncio
import contextlib
import gc
import threading

import grpc
import pytest
from support import CODE, PATIENCE, fails, found, numbers, result, results

from hypersender.contact import AsyncContactClient, ContactClient, ContactError, aio, errors


@pytest.fixture
def run():
    """Runs a coroutine function in a loop of its own. What asyncio could only log fails the test."""

    def run(main):
        faults = []

        async def watched():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: faults.append(context))
            return await asyncio.wait_for(main(), PATIENCE)

        outcome = asyncio.run(watched())
        gc.collect()
        assert not faults
        return outcome

    return run


class Hanging:
    """Answers for a call and a stream that start and do not end before the client leaves."""

    def __init__(self):
        self.started, self.left = threading.Event(), threading.Event()

    def one(self, _, context):
        context.add_callback(self.left.set)
        self.started.set()
        self.left.wait(PATIENCE)

    def many(self, request, context):
        context.add_callback(self.left.set)
        yield result(request, 1)
        self.started.set()
        self.left.wait(PATIENCE)

    async def wait_for_start(self):
        assert await asyncio.to_thread(self.started.wait, PATIENCE)

    async def wait_for_end(self):
        assert await asyncio.to_thread(self.left.wait, PATIENCE), "the call goes on"


async def collect(client, count):
    return [found async for found in client.stream_profile_pictures(numbers(count))]


class Passing(grpc.aio.UnaryUnaryClientInterceptor, grpc.aio.UnaryStreamClientInterceptor):
    """Waits for the call as tracing does."""

    async def intercept_unary_unary(self, continuation, details, request):
        return await continuation(details, request)

    async def intercept_unary_stream(self, continuation, details, request):
        return await continuation(details, request)


@pytest.mark.parametrize("interceptors", [[], [Passing()]], ids=["plain", "intercepted"])
@pytest.mark.parametrize("method", ["one", "many"])
def test_cancellation_passes_through_and_ends_the_call(serve, run, method, interceptors):
    hanging = Hanging()
    server = serve(getattr(hanging, method))

    async def main():
        async with AsyncContactClient(server.address, interceptors=interceptors) as client:
            call = client.get_profile_picture("1") if method == "one" else collect(client, 2)
            task = asyncio.ensure_future(call)
            await hanging.wait_for_start()
            task.cancel("enough")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert task.cancelled()
            await hanging.wait_for_end()

    run(main)
    assert len(server.asked) == 1


def test_cancellation_ends_the_wait_between_calls(serve, run):
    server = serve(results(0, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 600_000)))

    async def main():
        waiting = asyncio.Event()
        async with AsyncContactClient(server.address) as client:
            stream = client.stream_profile_pictures(["1"], on_broken=lambda *_: waiting.set())
            task = asyncio.ensure_future(anext(stream))
            await waiting.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    run(main)


@pytest.mark.parametrize("end", ["break", "aclosing", "the loop ends"])
def test_leaving_a_stream_early_ends_its_call(serve, run, end):
    hanging = Hanging()
    server = serve(hanging.many)

    async def main():
        async with AsyncContactClient(server.address) as client:
            if end == "break":
                async for _ in client.stream_profile_pictures(numbers(2)):
                    break
                await hanging.wait_for_end()
            elif end == "aclosing":
                async with contextlib.aclosing(client.stream_profile_pictures(numbers(2))) as stream:
                    async for _ in stream:
                        break
                await hanging.wait_for_end()
        if end == "the loop ends":
            client = AsyncContactClient(server.address)
            stream = client.stream_profile_pictures(numbers(2))
            await anext(stream)
            return client, stream
        return None

    run(main)
    assert hanging.left.wait(PATIENCE)
    assert len(server.asked) == 1


def test_timeouts_of_asyncio_end_the_call(serve, run):
    hanging = Hanging()
    server = serve(hanging.one)

    async def main():
        async with AsyncContactClient(server.address) as client:
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.get_profile_picture("1", timeout=PATIENCE), 1)
            await hanging.wait_for_end()

    run(main)


@pytest.mark.parametrize("interceptors", [[], [Passing()]], ids=["plain", "intercepted"])
@pytest.mark.parametrize("method", ["one", "many"])
def test_closing_ends_calls_with_an_error(serve, run, method, interceptors):
    hanging = Hanging()
    server = serve(getattr(hanging, method))

    async def main():
        client = AsyncContactClient(server.address, interceptors=interceptors)
        call = client.get_profile_picture("1", timeout=PATIENCE) if method == "one" else collect(client, 2)
        task = asyncio.ensure_future(call)
        await hanging.wait_for_start()
        await client.close()
        with pytest.raises(ContactError) as raised:
            await task
        assert raised.value.code is CODE.CANCELLED
        await hanging.wait_for_end()

    run(main)
    assert len(server.asked) == 1


def test_closing_ends_the_wait_between_calls(serve, run):
    server = serve(results(0, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 600_000)))

    async def main():
        waiting = asyncio.Event()
        client = AsyncContactClient(server.address)
        stream = client.stream_profile_pictures(["1"], on_broken=lambda *_: waiting.set())
        task = asyncio.ensure_future(anext(stream))
        await waiting.wait()
        await client.close()
        with pytest.raises(ContactError, match="closed"):
            await task

    run(main)


def test_closing_ends_a_stream_that_is_not_being_read(serve, run):
    hanging = Hanging()
    server = serve(hanging.many)

    async def main():
        async with AsyncContactClient(server.address) as client:
            stream = client.stream_profile_pictures(numbers(2))
            await anext(stream)
        await hanging.wait_for_end()
        with pytest.raises(ContactError, match="closed"):
            await anext(stream)

    run(main)


def test_an_error_that_comes_with_a_cancellation_is_not_logged(run):
    async def call():
        try:
            await asyncio.sleep(PATIENCE)
        except asyncio.CancelledError:
            raise LookupError from None

    async def main():
        task = asyncio.ensure_future(aio._settled(call()))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_a_client_is_opened_before_its_loop_and_belongs_to_it(serve, run):
    client = AsyncContactClient(serve(found).address)

    async def call():
        await client.get_profile_picture("1")

    run(call)
    with pytest.raises(RuntimeError, match="another event loop"):
        run(call)
    run(client.close)


def test_a_client_that_is_not_closed_outlives_its_loop(serve, run):
    server = serve(found)

    async def main():
        client = AsyncContactClient(server.address)
        await client.get_profile_picture("1")
        return client

    assert run(main)


def test_many_calls_at_once(serve, run):
    server = serve(found)

    async def main():
        async with AsyncContactClient(server.address) as client:
            pictures = await asyncio.gather(*map(client.get_profile_picture, numbers(300)))
            assert not client._open_calls
            return [picture.chat_id for picture in pictures]

    assert run(main) == numbers(300)


def test_the_package_starts_no_threads(serve, run):
    server = serve(results(3))

    def threads():
        # Without those of the server, which has more of them when calls overlap.
        return {thread for thread in threading.enumerate() if not thread.name.startswith("ThreadPoolExecutor")}

    async def main():
        async with AsyncContactClient(server.address) as client:
            # The first call starts the thread of gRPC itself.
            await collect(client, 3)
            before = threads()
            for _ in range(4):
                await collect(client, 3)
            return threads() - before

    assert not run(main)


@pytest.mark.parametrize("kind", ["coroutine", "function"])
def test_a_token_function_is_called_before_each_call(serve, run, kind):
    server = serve(results(1, fails(CODE.UNAVAILABLE, "OVERLOADED", 1)), results(2))
    tokens = iter(["one", "two", "three"])

    async def later():
        await asyncio.sleep(0)
        return next(tokens)

    async def main():
        token = later if kind == "coroutine" else lambda: next(tokens)
        async with AsyncContactClient(server.address, token=token) as client:
            await collect(client, 2)

    run(main)
    assert [seen["authorization"] for seen in server.metadata] == ["Bearer one", "Bearer two"]


@pytest.mark.parametrize("end", ["deadline", "close"])
@pytest.mark.parametrize("method", ["one", "many"])
def test_a_token_function_that_hangs_ends_with_the_call(serve, run, method, end):
    server = serve(found)

    async def main():
        asked, timeout = asyncio.Event(), 0.2 if end == "deadline" else None

        async def hang():
            asked.set()
            await asyncio.Event().wait()

        client = AsyncContactClient(server.address, token=hang)
        stream = client.stream_profile_pictures(["1"], timeout=timeout)
        call = client.get_profile_picture("1", timeout=timeout) if method == "one" else anext(stream)
        task = asyncio.ensure_future(call)
        await asked.wait()
        if end == "close":
            await client.close()
        with pytest.raises(ContactError) as raised:
            await task
        await client.close()
        return raised.value.code

    assert run(main) is (CODE.DEADLINE_EXCEEDED if end == "deadline" else CODE.CANCELLED)
    assert not server.asked


def test_an_error_of_the_token_function_passes_through(serve, run):
    def refuse():
        raise LookupError("no token")

    server = serve(found)

    async def main():
        async with AsyncContactClient(server.address, token=refuse) as client:
            with pytest.raises(LookupError, match="no token"):
                await client.get_profile_picture("1")

    run(main)
    with ContactClient(server.address, token=refuse) as client, pytest.raises(LookupError, match="no token"):
        client.get_profile_picture("1")
    assert not server.asked


def test_errors_in_a_task_group_are_those_of_the_package(serve, run):
    def refuse(_, context):
        fails(CODE.NOT_FOUND, "NOT_ON_WHATSAPP")(context)

    server = serve(refuse)

    async def main():
        async with AsyncContactClient(server.address, interceptors=[Passing()]) as client:
            calls = map(client.get_profile_picture, numbers(50))
            return await asyncio.gather(*calls, return_exceptions=True)

    assert {type(error) for error in run(main)} == {errors.NotOnWhatsApp}
