"""What only the client for threads must do: share it, end calls with iterators, leave no thread behind."""

import gc
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from support import CODE, PATIENCE, fails, found, numbers, result, results

from hypersender.contact import ContactClient, ContactError


def hangs(started, left):
    """A stream that sends one result and then nothing."""

    def answer(request, context):
        context.add_callback(left.set)
        yield result(request, 1)
        started.set()
        left.wait(PATIENCE)

    return answer


def silence_threads():
    return [thread for thread in threading.enumerate() if thread.name == "hypersender-contact-silence"]


def wait_until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_threads_share_a_client(serve):
    server = serve(found)
    with ContactClient(server.address) as client, ThreadPoolExecutor(16) as pool:
        pictures = list(pool.map(client.get_profile_picture, numbers(400)))
    assert [picture.chat_id for picture in pictures] == numbers(400)


@pytest.mark.parametrize("end", ["close", "collect", "collect a cycle"])
def test_an_iterator_that_ends_early_ends_its_call(serve, end):
    started, left = threading.Event(), threading.Event()
    with ContactClient(serve(hangs(started, left)).address) as client:
        stream = client.stream_profile_pictures(numbers(2))
        next(stream)
        assert silence_threads()
        if end == "close":
            stream.close()
        elif end == "collect a cycle":
            cycle = [stream]
            cycle.append(cycle)
            del cycle
        del stream
        gc.collect()
        assert left.wait(PATIENCE), "the call goes on"
        wait_until(lambda: not silence_threads())


class Generating(grpc.UnaryStreamClientInterceptor):
    """Returns a generator in place of a call, as the instrumentation of OpenTelemetry does."""

    def intercept_unary_stream(self, continuation, details, request):
        yield from continuation(details, request)


def test_an_interceptor_may_return_a_generator(serve):
    started, left = threading.Event(), threading.Event()
    again = fails(CODE.UNAVAILABLE, "OVERLOADED", 1)
    server = serve(results(1, again), results(3), hangs(started, left))
    with ContactClient(server.address, interceptors=[Generating()]) as client:
        assert len(list(client.stream_profile_pictures(numbers(3)))) == 3
        for _ in client.stream_profile_pictures(numbers(2)):
            break
        assert left.wait(PATIENCE), "the call goes on"
    assert len(server.asked) == 3


def test_streams_leave_no_threads(serve):
    with ContactClient(serve(results(3)).address) as client:
        for _ in range(20):
            assert len(list(client.stream_profile_pictures(numbers(3)))) == 3
        wait_until(lambda: not silence_threads())


def test_an_iterator_that_never_starts_makes_no_call(serve):
    server = serve(results(1))
    with ContactClient(server.address) as client:
        client.stream_profile_pictures(["1"])
        client.stream_profile_pictures(["1"]).close()
    assert not server.asked


def test_closing_ends_calls_in_other_threads(serve):
    started, left = threading.Event(), threading.Event()

    def hang(_, context):
        context.add_callback(left.set)
        started.set()
        left.wait(PATIENCE)

    client = ContactClient(serve(hang).address)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(client.get_profile_picture, "1", timeout=PATIENCE)
        assert started.wait(PATIENCE)
        client.close()
        with pytest.raises(ContactError) as raised:
            call.result(PATIENCE)
    assert raised.value.code is CODE.CANCELLED
    assert left.wait(PATIENCE)


@pytest.mark.parametrize("when", ["reading", "waiting"])
def test_closing_ends_streams_in_other_threads(serve, when):
    started, left = threading.Event(), threading.Event()

    def refuse(request, context):
        context.set_trailing_metadata([("grpc-retry-pushback-ms", "600000")])
        context.abort(CODE.UNAVAILABLE, "later")
        yield result(request, 0)

    client = ContactClient(serve(hangs(started, left) if when == "reading" else refuse).address)
    with ThreadPoolExecutor(1) as pool:
        stream = client.stream_profile_pictures(numbers(2), on_broken=lambda *_: started.set())
        call = pool.submit(list, stream)
        assert started.wait(PATIENCE)
        client.close()
        with pytest.raises(ContactError) as raised:
            call.result(PATIENCE)
    assert raised.value.code is CODE.CANCELLED


def test_a_program_ends_in_the_middle_of_a_stream(serve, tmp_path):
    program = (
        "import sys; from hypersender.contact import ContactClient\n"
        "client = ContactClient(sys.argv[1])\n"
        "stream = client.stream_profile_pictures(['1', '2'])\n"
        "print(next(stream).index)"
    )
    address = serve(hangs(threading.Event(), threading.Event())).address
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, address],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=True,
        cwd=tmp_path,
    )
    assert run.stdout == "1\n"
    assert not any(word in run.stderr for word in ("Traceback", "Exception", "Warning")), run.stderr
