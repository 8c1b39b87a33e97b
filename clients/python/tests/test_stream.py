"""The stream that resumes, with both clients, against servers that break streams on purpose."""

import threading
import time

import pytest
from support import CODE, PATIENCE, fails, numbers, result, results

from hypersender.contact import ContactError, Outcome, _stream, errors
from hypersender.contact.v1 import contact_service_pb2 as pb

AGAIN = fails(CODE.UNAVAILABLE, "OVERLOADED", 1)


@pytest.fixture
def start(serve, connect):
    """Start a server with the given answers, and return it with a client."""

    def start(*answers):
        server = serve(*answers)
        return server, connect(server.address, instance="one")

    return start


def collect(client, chat_ids, **options):
    """Run a stream to its end, and check that no id has two results, nor that of another."""
    seen = set()
    for found in client.stream_profile_pictures(chat_ids, timeout=PATIENCE, **options):
        assert found.index not in seen
        assert chat_ids[found.index] == found.chat_id
        assert found.outcome is Outcome.ABSENT
        seen.add(found.index)
    return len(seen)


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
            results(4, fails(CODE.INTERNAL, "LIMIT", domain="proxy.example.com")),
            6,
            id="a proxy has reasons of its own",
        ),
        pytest.param(results(9, fails(CODE.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")), 1, id="the longest stream"),
        pytest.param(results(0, fails(CODE.RESOURCE_EXHAUSTED, "TOO_MANY_STREAMS", 1)), 10, id="too many streams"),
        pytest.param(results(5), 5, id="the stream ends early"),
        pytest.param(twice, 9, id="a result comes twice"),
    ],
)
def test_a_broken_stream_is_resumed(start, first, missed):
    server, client = start(first, results(10))
    chat_ids = numbers(10)
    assert collect(client, chat_ids, known_fingerprints={chat_id: f"of {chat_id}" for chat_id in chat_ids}) == 10
    _, again = server.asked
    assert (len(again.chat_ids), again.instance) == (missed, "one")
    assert dict(again.known_fingerprints) == {chat_id: f"of {chat_id}" for chat_id in again.chat_ids}


def test_calls_have_at_most_10000_ids(start):
    server, client = start(results(10_000))
    assert collect(client, numbers(20_001)) == 20_001
    assert [len(request.chat_ids) for request in server.asked] == [10_000, 10_000, 1]


def test_no_ids_are_no_call(start):
    server, client = start(results(1))
    assert collect(client, []) == 0
    assert not server.asked


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
def test_a_stream_gives_up(start, monkeypatch, end, calls):
    monkeypatch.setattr(_stream, "_ATTEMPTS", 3)
    server, client = start(results(0, end))
    with pytest.raises(ContactError):
        collect(client, numbers(2))
    assert len(server.asked) == calls


def test_a_call_with_a_result_is_no_failed_attempt(start, monkeypatch):
    monkeypatch.setattr(_stream, "_ATTEMPTS", 2)
    # The last call has its result and breaks all the same.
    server, client = start(results(1, AGAIN))
    assert collect(client, numbers(8)) == 8
    assert len(server.asked) == 8


def test_the_wait_of_the_server_is_obeyed(start):
    _, client = start(results(1, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 1500)), results(2))
    waits = []
    begin = time.monotonic()
    assert collect(client, numbers(2), on_broken=lambda error, wait: waits.append((type(error), wait))) == 2
    [(reason, wait)] = waits
    assert (reason, 1.5 <= wait <= time.monotonic() - begin) == (errors.ServerStopping, True)


def hangs(left):
    def answer(request, context):
        context.add_callback(left.set)
        yield result(request, 1)
        left.wait(PATIENCE)

    return answer


def test_a_silent_stream_is_resumed(start, monkeypatch):
    monkeypatch.setattr(_stream, "SILENCE", 2)
    left = threading.Event()
    server, client = start(hangs(left), results(2))
    broken = []
    assert collect(client, numbers(2), on_broken=lambda error, _: broken.append(error.message)) == 2
    assert (len(server.asked), broken) == (2, ["the stream sent nothing for 2 s"])
    assert left.wait(PATIENCE)


def test_the_time_of_the_loop_is_no_silence(start, monkeypatch):
    monkeypatch.setattr(_stream, "SILENCE", 2)
    server, client = start(results(3))
    for _ in client.stream_profile_pictures(numbers(3), timeout=PATIENCE):
        time.sleep(2.5)
    assert len(server.asked) == 1


def test_leaving_the_loop_ends_the_call(start):
    left = threading.Event()
    server, client = start(hangs(left))
    for _ in client.stream_profile_pictures(numbers(2)):
        break
    assert left.wait(PATIENCE), "the call goes on"
    assert len(server.asked) == 1


def test_the_timeout_is_for_all_calls(start):
    server, client = start(results(1, fails(CODE.UNAVAILABLE, "SERVER_STOPPING", 3_600_000)))
    with pytest.raises(errors.ServerStopping):
        collect(client, numbers(2))
    # There is no time left for the wait of an hour.
    assert len(server.asked) == 1


def test_a_stream_without_a_timeout_has_no_deadline(start):
    deadlines = []

    def answer(request, context):
        deadlines.append(context.time_remaining())
        yield result(request, 0)

    _, client = start(answer)
    list(client.stream_profile_pictures(["1"]))
    # What gRPC says when there is none.
    assert deadlines[0] is None or deadlines[0] > 86_400


def test_a_deadline_ends_a_stream(start):
    server, client = start(hangs(threading.Event()))
    with pytest.raises(errors.DeadlineExceeded):
        list(client.stream_profile_pictures(numbers(2), timeout=1))
    assert len(server.asked) == 1


def test_a_token_function_is_called_before_each_call(start):
    server, client = start(results(1, AGAIN), results(2))
    tokens = iter(["one", "two", "three"])
    list(client.stream_profile_pictures(numbers(2), token=lambda: next(tokens)))
    assert [seen["authorization"] for seen in server.metadata] == ["Bearer one", "Bearer two"]


def test_progress_is_that_of_all_calls(start):
    def answer(request, _):
        yield result(request, 0)
        progress = pb.StreamProgress(done=1, total=9)
        progress.paused_until.FromSeconds(1_800_000_000)
        yield pb.StreamProfilePicturesResponse(progress=progress)

    _, client = start(answer)
    seen = []
    list(client.stream_profile_pictures(numbers(2), on_progress=seen.append))
    assert [(progress.done, progress.failed, progress.total) for progress in seen] == [(1, 0, 2), (2, 0, 2)]
    assert (seen[0].paused_until.timestamp(), seen[0].next_turn) == (1_800_000_000, None)


def test_an_error_of_a_callback_is_not_one_of_the_stream(start):
    def refuse(*_):
        raise errors.Overloaded(CODE.UNAVAILABLE)

    server, client = start(results(1, AGAIN))
    with pytest.raises(errors.Overloaded):
        list(client.stream_profile_pictures(numbers(2), on_broken=refuse))
    assert len(server.asked) == 1


def test_a_stream_of_the_service(start_server, connect):
    chat_ids = [*numbers(200), "abc", "15551230004", "15552000007"]
    client = connect(start_server("--rate", "0").address)

    def stream(known):
        found = list(client.stream_profile_pictures(chat_ids, timeout=PATIENCE, known_fingerprints=known))
        assert sorted(each.index for each in found) == list(range(len(chat_ids)))
        assert [each.chat_id for each in found if each.error] == ["abc"]
        return found

    known = {found.chat_id: found.picture.fingerprint for found in stream({}) if found.picture}
    assert len(known) == 200
    assert {found.chat_id for found in stream(known) if found.outcome is Outcome.UNCHANGED} == set(numbers(200))


def test_one_of_two_replicas_is_killed(rest_api, start_server, start_relay, connect):
    replicas = [start_server("--rate", "0", environment=rest_api.environment) for _ in range(2)]
    killed = []

    def kill(replica):
        if not killed:
            killed.append(replica)
            replica.kill()

    # A relay kills the replica behind it in the middle of the stream, which has 100,000 bytes.
    relays = [start_relay(each.address, (20_000, lambda _, each=each: kill(each))) for each in replicas]
    client = connect("ipv4:" + ",".join(relay.address for relay in relays))
    broken = []
    found = client.stream_profile_pictures(
        numbers(400), timeout=2 * PATIENCE, on_broken=lambda error, _: broken.append(error.code)
    )
    assert sorted(each.index for each in found) == list(range(400))
    assert len(killed) == 1
    assert broken
    assert broken[0] in (CODE.UNAVAILABLE, CODE.INTERNAL, CODE.UNKNOWN, CODE.CANCELLED)
