"""The errors, and the waits after them, in the cases that all client packages share."""

import copy
import pickle
import re
from pathlib import Path

import grpc
import pytest
from support import CODE, fails, status_of, vectors

from hypersender.contact import ContactError, _error, _stream, errors

REASONS = Path(__file__).parents[3] / "docs" / "errors.md"


def failed(status, pushback=None):
    """The error of gRPC for a call with a status in its details."""
    trailers = [("grpc-status-details-bin", status.SerializeToString())]
    if pushback is not None:
        trailers.append(("grpc-retry-pushback-ms", pushback))
    code = next((code for code in CODE if code.value[0] == status.code), CODE.UNKNOWN)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailers), status.message)


@pytest.mark.parametrize("read", [_error.from_status, lambda status: _error.from_call(failed(status))])
@pytest.mark.parametrize("row", vectors("errors"), ids=lambda row: row["name"])
def test_an_error_is_read(row, read):
    error = read(status_of(row))
    assert (error.code.name, error.reason, error.field) == (row["code"], row["reason"], row["field"])
    assert round((error.retry_after or 0) * 1000, 6) == row["retryAfterMs"]
    assert (error.retry_after is None) == (row["retryAfterMs"] == 0)
    assert (error.retryable, error.message) == (row["retryable"], "a message")
    for copied in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert (type(copied), copied.args, copied.retryable) == (type(error), error.args, error.retryable)


def test_each_reason_has_a_class():
    rows = re.findall(r"^\| [A-Z_]+ \| ([A-Z_]+) \|", REASONS.read_text(), re.MULTILINE)
    assert len(set(rows)) > 30
    assert ContactError._by_reason.keys() == set(rows)
    for reason in rows:
        name = {"INTERNAL": "InternalError"}.get(
            reason, reason.title().replace("_", "").replace("Whatsapp", "WhatsApp")
        )
        assert ContactError._by_reason[reason] is getattr(errors, name)


def test_a_deadline_has_its_class_without_a_reason():
    row = next(row for row in vectors("errors") if row["name"] == "a deadline of the client's own library")
    assert type(_error.from_status(status_of(row))) is errors.DeadlineExceeded


@pytest.mark.parametrize("details", [b"\xff\xff", b""])
def test_details_of_another_kind_are_none(details):
    trailers = grpc.aio.Metadata(("grpc-status-details-bin", details))
    error = _error.from_call(grpc.aio.AioRpcError(CODE.NOT_FOUND, grpc.aio.Metadata(), trailers, "gone"))
    assert (error.code, error.reason, error.message) == (CODE.NOT_FOUND, "", "gone")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        ((CODE.UNAVAILABLE, "OVERLOADED", "", 1.5, "busy"), "UNAVAILABLE OVERLOADED, try again in 1.5 s: busy"),
        ((CODE.INVALID_ARGUMENT, "CHAT_ID_INVALID", "chat_id"), "INVALID_ARGUMENT CHAT_ID_INVALID (chat_id)"),
        ((CODE.UNAVAILABLE, "", "", None, "refused"), "UNAVAILABLE: refused"),
        ((CODE.UNAVAILABLE,), "UNAVAILABLE"),
    ],
)
def test_an_error_has_a_text(error, text):
    assert str(ContactError(*error)) == text


@pytest.mark.parametrize("row", vectors("waits"), ids=lambda row: row["name"])
def test_the_wait_before_a_stream_goes_on(row):
    status = status_of(row)
    cause = failed(status, row["pushback"])
    assert cause.code().name == row["code"]
    error = _error.from_call(cause)
    waits = [_stream.wait_after(error, row["failures"]) for _ in range(200)]
    if not row["again"]:
        assert waits == [None] * len(waits)
        return
    assert all(row["atLeastMs"] <= wait * 1000 <= row["atMostMs"] for wait in waits)
    # Clients that broke at the same time come back at different times.
    assert len(set(waits)) > 100


def test_a_call_raises_the_class_of_its_reason(serve, connect):
    def refuse(_, context):
        fails(CODE.NOT_FOUND, "NOT_ON_WHATSAPP")(context)

    with pytest.raises(errors.NotOnWhatsApp) as raised:
        connect(serve(refuse).address).get_profile_picture("15551230001")
    assert isinstance(raised.value.__cause__, grpc.RpcError)
