"""Calls for one contact and batches, with both clients, against the service and other servers."""

import threading
import time

import grpc
import pytest
from support import CODE, PATIENCE, fails, found, numbers

from hypersender.contact import ContactError, Outcome, errors
from hypersender.contact.v1 import contact_service_pb2 as pb


def test_a_picture(client):
    picture = client.get_profile_picture("+1 5551230001".replace(" ", ""))
    assert (picture.chat_id, picture.stale) == ("15551230001", False)
    assert picture.url.startswith("http")
    assert picture.fingerprint
    assert picture.instance
    assert picture.fetch_time < picture.expire_time
    assert picture.expire_time.utcoffset().total_seconds() == 0
    for secret in ("15551230001", picture.url, picture.avatar_url or picture.url):
        assert secret not in repr(picture)


def test_no_picture(client):
    assert client.get_profile_picture("15551230004") is None


@pytest.mark.parametrize(
    ("chat_id", "raised", "field"),
    [
        ("15551230006", errors.NotOnWhatsApp, ""),
        ("abc", errors.ChatIdInvalid, "chat_id"),
        ("15551230007", errors.UpstreamCredentialsRejected, ""),
        ("15551230008", errors.UpstreamRateLimited, ""),
        ("15551230010", errors.UpstreamUnavailable, ""),
        ("15551230013", errors.UpstreamResponseInvalid, ""),
        ("15551230014", errors.UpstreamQueued, ""),
        ("15551230015", errors.InstanceNotConnected, ""),
    ],
)
def test_an_error(client, chat_id, raised, field):
    begin = time.monotonic()
    with pytest.raises(raised) as failed:
        client.get_profile_picture(chat_id)
    error = failed.value
    assert (type(error), error.field) == (raised, field)
    assert error.retryable == (error.code in (CODE.UNAVAILABLE, CODE.RESOURCE_EXHAUSTED))
    assert isinstance(error.__cause__, grpc.RpcError)
    assert chat_id not in f"{error} {error!r}"
    # The waits that the server asks for do not fit into the time of the call: its -1 is obeyed.
    assert time.monotonic() - begin < PATIENCE


def test_other_errors_of_the_service(client):
    with pytest.raises(errors.InstanceInvalid):
        client.get_profile_picture("15551230001", instance="no instance")
    with pytest.raises(errors.MessageTooLarge):
        client.get_profile_picture("1" * 17_000)
    with pytest.raises(errors.MetadataTooLarge):
        client.get_profile_picture("15551230001", token="a" * 17_000)


def test_stored_answers_only(client):
    with pytest.raises(errors.NotCached):
        client.get_profile_picture("15551230001", only_if_cached=True)
    first = client.get_profile_picture("15551230001")
    assert client.get_profile_picture("15551230001", only_if_cached=True) == first


def test_a_deadline(client):
    begin = time.monotonic()
    with pytest.raises(errors.DeadlineExceeded):
        client.get_profile_picture("15551230012", timeout=1)
    assert time.monotonic() - begin < PATIENCE
    with pytest.raises(errors.DeadlineExceeded):
        client.get_profile_picture("15551230012", timeout=0)


def test_a_batch(client):
    chat_ids = ["15551230001", "abc", "15551230004", "15551230006", "15551230001", "15552000001@c.us"]
    batch = client.batch_get_profile_pictures(chat_ids)
    assert [(found.index, found.chat_id) for found in batch] == list(enumerate(chat_ids))
    present, absent, unchanged, failed = Outcome
    assert [found.outcome for found in batch] == [present, failed, absent, failed, present, present]
    assert [type(found.error) for found in batch if found.error] == [errors.ChatIdInvalid, errors.NotOnWhatsApp]
    assert [bool(found.picture) for found in batch] == [found.outcome is present for found in batch]
    assert [found.fetch_time is None for found in batch] == [found.outcome is failed for found in batch]
    assert not any(text in repr(batch) for text in ["http", "1555123", "1555200"])

    known = {"15551230001": batch[0].picture.fingerprint, "15552000001@c.us": "another", "15559999999": "unknown"}
    batch = client.batch_get_profile_pictures(iter(chat_ids), known_fingerprints=known)
    assert [found.index for found in batch if found.outcome is unchanged] == [0, 4]
    assert batch[0].picture is None


@pytest.mark.parametrize("size", [0, 101])
def test_a_batch_has_a_limit(client, size):
    with pytest.raises(errors.BatchSizeInvalid) as raised:
        client.batch_get_profile_pictures(numbers(size))
    assert (raised.value.field, raised.value.retryable) == ("chat_ids", False)


@pytest.mark.parametrize(
    ("chat_ids", "known", "named"),
    [
        (["1", "2", "3", "4\ud800"], {}, r"chat_ids\[3\]"),
        (["1", 15551230001], {}, r"chat_ids\[1\]"),
        ("15551230001", {}, "chat_ids is one text"),
        (["1", "2"], {"2": "\udfff"}, r"known_fingerprints of chat_ids\[1\]"),
    ],
)
def test_text_that_cannot_be_sent_is_refused(serve, connect, chat_ids, known, named):
    server = serve(found)
    client = connect(server.address)
    for call in (
        client.batch_get_profile_pictures,
        lambda *ids, **options: list(client.stream_profile_pictures(*ids, **options)),
    ):
        with pytest.raises(ValueError, match=named) as raised:
            call(chat_ids, known_fingerprints=known)
        assert "1555" not in str(raised.value)
        assert raised.value.__cause__ is None
        assert raised.value.__suppress_context__ or raised.value.__context__ is None
    with pytest.raises(ValueError, match="chat_id is not"):
        client.get_profile_picture("\ud800")
    assert not server.asked


@pytest.mark.parametrize("option", ["timeout", "max_age", "min_fresh", "stale_if_error"])
@pytest.mark.parametrize("value", [-1, float("inf"), float("nan"), 1e15])
def test_a_time_that_no_time_has_is_refused(serve, connect, option, value):
    client = connect(serve(found).address)
    with pytest.raises(ValueError, match=option):
        client.get_profile_picture("1", **{option: value})


def test_an_unknown_option_is_refused(serve, connect):
    with pytest.raises(TypeError, match="max_aeg"):
        connect(serve(found).address).get_profile_picture("1", max_aeg=1)


def test_a_pushback_is_obeyed(serve, connect):
    times = []

    def refuse(request, context):
        times.append(time.monotonic())
        fails(CODE.UNAVAILABLE, "OVERLOADED", 1500, pushback="1500")(context)

    server = serve(refuse, found)
    connect(server.address).get_profile_picture("15551230001", timeout=PATIENCE)
    assert len(server.asked) == 2
    # gRPC's own first back-off is at most 0.24 s.
    assert time.monotonic() - times[0] >= 1.4


def test_a_pushback_of_minus_one_is_obeyed(serve, connect):
    def refuse(_, context):
        fails(CODE.UNAVAILABLE, "OVERLOADED", 60_000, pushback="-1")(context)

    server = serve(refuse)
    with pytest.raises(errors.Overloaded) as raised:
        connect(server.address).get_profile_picture("15551230001", timeout=PATIENCE)
    assert (raised.value.retry_after, len(server.asked)) == (60, 1)


def test_an_answer_of_a_later_version(serve, connect):
    def one(_, context):
        return pb.GetProfilePictureResponse(profile_picture=pb.ProfilePicture(state=9))

    def many(request, _):
        later = [pb.ProfilePictureResult(profile_picture=pb.ProfilePicture(state=9, avatar_url="https://secret/"))]
        return pb.BatchGetProfilePicturesResponse(results=[*later, pb.ProfilePictureResult(index=1)])

    client = connect(serve(one, many).address)
    with pytest.raises(ContactError, match="update hypersender-grpc-contact") as raised:
        client.get_profile_picture("1")
    assert raised.value.code is CODE.UNKNOWN
    for result in client.batch_get_profile_pictures(["1", "2"]):
        assert (result.outcome, result.error.code, result.avatar_url) == (Outcome.FAILED, CODE.UNKNOWN, "")
    with pytest.raises(ContactError, match="update hypersender-grpc-contact"):
        client.batch_get_profile_pictures(["1", "2", "3"])


def test_a_batch_needs_a_result_for_each_contact_in_the_order_of_the_request(serve, connect):
    def many(request, _):
        absent = pb.ProfilePicture(state=pb.PROFILE_PICTURE_STATE_NOT_AVAILABLE)
        found = pb.ProfilePictureResult(index=7, requested_chat_id="9", profile_picture=absent)
        return pb.BatchGetProfilePicturesResponse(results=[found] * 2)

    client = connect(serve(many).address)
    seen = client.batch_get_profile_pictures(["1", "2"])
    assert [(result.index, result.chat_id) for result in seen] == [(0, "1"), (1, "2")]
    for chat_ids in (["1"], ["1", "2", "3"]):
        with pytest.raises(ContactError, match="update hypersender-grpc-contact") as raised:
            client.batch_get_profile_pictures(chat_ids)
        assert raised.value.code is CODE.UNKNOWN


def test_a_time_that_datetime_lacks_is_none(serve, connect):
    def later(request, context):
        response = found(request, context)
        response.profile_picture.expire_time.seconds = 253_402_300_800
        return response

    assert connect(serve(later).address).get_profile_picture("1").expire_time is None


def test_a_token_function_without_a_token_is_refused(serve, connect):
    server = serve(found)
    for token in (lambda: None, lambda: ""):
        with pytest.raises(ValueError, match="the token is empty"):
            connect(server.address, token=token).get_profile_picture("1")
    assert not server.asked


def test_a_call_without_any_time_is_not_made(serve, connect):
    server = serve(found)
    client = connect(server.address)
    for _ in range(20):
        with pytest.raises(errors.DeadlineExceeded, match="before the call"):
            client.get_profile_picture("1", timeout=0)
    assert not server.asked


def test_a_stale_answer_says_so(serve, connect):
    def answer(request, context):
        response = found(request, context)
        response.cache_info.status = pb.CACHE_STATUS_STALE
        return response

    assert connect(serve(answer).address).get_profile_picture("1").stale


def test_a_closed_client_makes_no_calls(serve, connect):
    server = serve(found)
    client = connect(server.address)
    client.get_profile_picture("1")
    client.close()
    client.close()
    for call in (
        lambda: client.get_profile_picture("1"),
        lambda: client.batch_get_profile_pictures(["1"]),
        lambda: list(client.stream_profile_pictures(["1"])),
    ):
        with pytest.raises(ContactError, match="closed") as raised:
            call()
        assert raised.value.code is CODE.CANCELLED
    assert len(server.asked) == 1


def test_the_channel_serves_other_stubs(serve, connect):
    server = serve(found)
    client = connect(server.address, token="secret")
    stub, ask = getattr(client, "client", client), pb.GetProfilePictureRequest(chat_id="7")
    if stub is client:
        response = stub.stub.GetProfilePicture(ask, timeout=PATIENCE)
    else:

        async def call():
            assert stub.channel
            return await stub.stub.GetProfilePicture(ask, timeout=PATIENCE)

        response = client.run(call())
    assert response.profile_picture.chat_id == "7"
    assert "authorization" not in server.metadata[0]


def test_the_server_ends_a_call_that_is_cut_by_its_deadline(serve, connect):
    left = threading.Event()

    def hang(_, context):
        context.add_callback(left.set)
        left.wait(PATIENCE)
        return pb.GetProfilePictureResponse()

    with pytest.raises(errors.DeadlineExceeded):
        connect(serve(hang).address).get_profile_picture("1", timeout=1)
    assert left.wait(PATIENCE)
