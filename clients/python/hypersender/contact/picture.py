"""What the calls return: `Picture`, `Result` and `Progress`. Links and chat ids are not in their `repr`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from enum import Enum

import grpc
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from hypersender.contact._error import ContactError, from_status
from hypersender.contact.v1 import contact_service_pb2 as pb


@dataclass(frozen=True, slots=True)
class Picture:
    """A profile picture, as one instance may see it."""

    # A link to the image. It is secret, because anyone who has it can fetch the image, and it expires: do not
    # store or log it.
    url: str = field(repr=False)
    # The time at which the link stops working, in UTC. None if the link does not say so.
    expire_time: datetime | None
    # Stays the same while the picture stays the same. Store it, and compare it for equality only.
    fingerprint: str
    # The address of the image on the service for web pages. Secret too. Empty if the service hands out none.
    avatar_url: str = field(repr=False)
    # The time at which Hypersender gave the answer, in UTC.
    fetch_time: datetime
    # The instance that was asked.
    instance: str
    # The contact in canonical form, such as 15551234567 or 15551234567@c.us.
    chat_id: str = field(repr=False)
    # Whether the answer is older than the service usually allows: it is being refreshed, or the fetch failed.
    stale: bool


class Outcome(Enum):
    """What the look-up of one contact found."""

    PRESENT = "present"
    ABSENT = "absent"
    UNCHANGED = "unchanged"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Result:
    """The result for one contact of a batch or a stream."""

    # The position of the contact in the request, from 0.
    index: int
    # The contact as in the request.
    chat_id: str = field(repr=False)
    outcome: Outcome
    # Set if and only if the outcome is PRESENT.
    picture: Picture | None = None
    # Set if and only if the outcome is FAILED. It is not raised.
    error: ContactError | None = None
    # As in Picture, for every outcome but FAILED.
    avatar_url: str = field(default="", repr=False)
    # As in Picture; None if the outcome is FAILED.
    fetch_time: datetime | None = None
    # As in Picture.
    stale: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """The state of a stream. All numbers count the whole request, over all of its calls."""

    # Results so far, failed ones included.
    done: int
    failed: int
    # The number of results there will be.
    total: int
    # The time at which the service expects to ask Hypersender next, in UTC. None if no contact waits.
    next_turn: datetime | None
    # The end of the pause that Hypersender asked for, in UTC. None if there is none.
    paused_until: datetime | None


_OUTCOMES = {
    pb.PROFILE_PICTURE_STATE_PRESENT: Outcome.PRESENT,
    pb.PROFILE_PICTURE_STATE_NOT_AVAILABLE: Outcome.ABSENT,
}


def time_of(message: Message, name: str) -> datetime | None:
    """Return a field with a time, in UTC; None if it is unset or after the last one of datetime, in 9999."""
    time: Timestamp = getattr(message, name)
    try:
        return time.ToDatetime(timezone.utc) if message.HasField(name) else None
    except (ValueError, OverflowError):
        return None


def to_picture(message: pb.ProfilePicture, cache_info: pb.CacheInfo) -> Picture | None:
    """Return the picture, or None if there is none. Raises ContactError for a state of a later version."""
    if message.state not in _OUTCOMES:
        raise _too_new()
    if _OUTCOMES[message.state] is Outcome.ABSENT:
        return None
    return Picture(
        url=message.url,
        expire_time=time_of(message, "expire_time"),
        fingerprint=message.fingerprint,
        avatar_url=message.avatar_url,
        fetch_time=message.fetch_time.ToDatetime(timezone.utc),
        instance=message.instance,
        chat_id=message.chat_id,
        stale=cache_info.status == pb.CACHE_STATUS_STALE,
    )


def to_results(messages: Sequence[pb.ProfilePictureResult], chat_ids: Sequence[str]) -> list[Result]:
    """Return the results of a batch. Raises ContactError unless there is one for each of `chat_ids`."""
    if len(messages) != len(chat_ids):
        raise _too_new()
    return [to_result(message, index, chat_ids[index]) for index, message in enumerate(messages)]


def to_result(message: pb.ProfilePictureResult, index: int, chat_id: str) -> Result:
    """Return the result at a position of the request. An outcome of a later version is FAILED."""
    kind = message.WhichOneof("outcome")
    found = message.unchanged if kind == "unchanged" else message.profile_picture
    outcome = Outcome.UNCHANGED if kind == "unchanged" else _OUTCOMES.get(message.profile_picture.state, Outcome.FAILED)
    if outcome is Outcome.FAILED:
        error = from_status(message.error) if kind == "error" else _too_new()
        return Result(index, chat_id, outcome, error=error)
    picture = to_picture(message.profile_picture, message.cache_info) if outcome is Outcome.PRESENT else None
    stale = message.cache_info.status == pb.CACHE_STATUS_STALE
    return Result(index, chat_id, outcome, picture, None, found.avatar_url, time_of(found, "fetch_time"), stale)


def _too_new() -> ContactError:
    message = "the server has an answer that this version does not know: update hypersender-grpc-contact"
    return ContactError(grpc.StatusCode.UNKNOWN, message=message)
