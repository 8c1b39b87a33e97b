"""What the two clients share: the options, the checked arguments of a call, its request and its metadata.

Deliberately not here: making the calls, which differs between the two clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, Generic, TypeVar

import grpc
from typing_extensions import TypedDict

from hypersender.contact._channel import Opening, Time, Tls, seconds
from hypersender.contact._error import ContactError
from hypersender.contact.errors import DeadlineExceeded
from hypersender.contact.picture import Progress
from hypersender.contact.v1 import contact_service_pb2 as pb

TokenT = TypeVar("TokenT")
InterceptorT = TypeVar("InterceptorT")


class CallOptions(TypedDict, Generic[TokenT], total=False):
    """Options of every call. A time is a number of seconds or a timedelta. None is the same as no option."""

    # In place of those of the client.
    instance: str | None
    token: TokenT | None
    # The time for the call; for a stream, for all of its calls together.
    timeout: Time | None
    # The oldest acceptable answer; 0 asks Hypersender again, unless it was asked in the last 30 s.
    max_age: Time | None
    # The shortest acceptable rest of a link's life.
    min_fresh: Time | None
    # The longest acceptable time for which an answer may be stale; 0 refuses stale answers.
    stale_if_error: Time | None
    # Take stored answers only. A contact without one fails with NotCached.
    only_if_cached: bool


class BatchOptions(CallOptions[TokenT], Generic[TokenT], total=False):
    """Options of calls for many contacts."""

    # Fingerprints by chat id, as in the request. A contact whose picture still has its fingerprint is
    # UNCHANGED.
    known_fingerprints: Mapping[str, str] | None


class StreamOptions(BatchOptions[TokenT], Generic[TokenT], total=False):
    """Options of a stream."""

    # Called whenever there was no result for about 10 s, and at the end of each call.
    on_progress: Callable[[Progress], object] | None
    # Called with the error of a call that broke, and the seconds until the next one.
    on_broken: Callable[[ContactError, float], object] | None


class Call:
    """The options of one call. Its time runs from here on. Raises ValueError for an option that cannot be."""

    def __init__(self, chat_ids: Iterable[str], *, instance: str, timeout: Time | None, **options: Any) -> None:
        if isinstance(chat_ids, str):
            raise ValueError("chat_ids is one text, and must be several")
        self._instance, limit = check_text("instance", instance), seconds("timeout", timeout)
        self._end = None if limit is None else time.monotonic() + limit
        self.chat_ids = [check_text(f"chat_ids[{index}]", chat_id) for index, chat_id in enumerate(chat_ids)]
        known = options.pop("known_fingerprints", {})
        self._known = {
            chat_id: check_text(f"known_fingerprints of chat_ids[{index}]", known[chat_id])
            for index, chat_id in enumerate(self.chat_ids)
            if chat_id in known
        }
        self.token = options.pop("token", None)
        self.on_progress, self.on_broken = options.pop("on_progress", None), options.pop("on_broken", None)
        self._cache_control = pb.CacheControl(only_if_cached=options.pop("only_if_cached", False))
        for name in ("max_age", "min_fresh", "stale_if_error"):
            if (limit := seconds(name, options.pop(name, None))) is not None:
                getattr(self._cache_control, name).FromTimedelta(timedelta(seconds=limit))
        if options:
            raise TypeError(f"there is no option {next(iter(options))!r}")

    def left(self) -> float | None:
        """The seconds that are left, at least 0; None if there is no end."""
        return None if self._end is None else max(0.0, self._end - time.monotonic())

    def one(self) -> pb.GetProfilePictureRequest:
        """The request for the only contact."""
        [chat_id], control = self.chat_ids, self._cache_control
        return pb.GetProfilePictureRequest(instance=self._instance, chat_id=chat_id, cache_control=control)

    def batch(self) -> pb.BatchGetProfilePicturesRequest:
        """The request for all contacts together."""
        return pb.BatchGetProfilePicturesRequest(**self._fields(self.chat_ids))

    def stream(self, chat_ids: Sequence[str]) -> pb.StreamProfilePicturesRequest:
        """A request for some of the contacts."""
        return pb.StreamProfilePicturesRequest(**self._fields(chat_ids))

    def _fields(self, chat_ids: Sequence[str]) -> dict[str, Any]:
        known = {chat_id: self._known[chat_id] for chat_id in chat_ids if chat_id in self._known}
        fields = {"instance": self._instance, "cache_control": self._cache_control}
        return {**fields, "chat_ids": chat_ids, "known_fingerprints": known}


class Base(Generic[TokenT, InterceptorT]):
    """The options of a client, and the calls made of them. See ContactClient for the arguments."""

    def __init__(
        self,
        target: str,
        *,
        instance: str = "",
        token: TokenT | None = None,
        tls: Tls = None,
        timeout: Time = 5.0,
        user_agent: str = "",
        interceptors: Sequence[InterceptorT] = (),
        channel_options: Sequence[tuple[str, Any]] = (),
        allow_token_in_plain_text: bool = False,
    ) -> None:
        self._opening = Opening(target, tls, user_agent, channel_options, allow_token_in_plain_text)
        # A function is called later, so that only the transport is checked here.
        self._opening.metadata(token if isinstance(token, str) or token is None else "later")
        self._defaults: dict[str, Any] = {"instance": check_text("instance", instance), "token": token}
        self._timeout, self._interceptors = seconds("timeout", timeout), interceptors
        self._open()

    def _open(self) -> None:
        """Make the channel, where it does not belong to an event loop."""

    def _one(self, chat_id: str, options: Mapping[str, Any]) -> Call:
        return self._call([check_text("chat_id", chat_id)], options, self._timeout)

    def _batch(self, chat_ids: Iterable[str], options: Mapping[str, Any]) -> Call:
        return self._call(chat_ids, options, 30.0)

    def _call(self, chat_ids: Iterable[str], options: Mapping[str, Any], timeout: Time | None) -> Call:
        given = {name: value for name, value in options.items() if value is not None}
        return Call(chat_ids, **{"timeout": timeout, **self._defaults, **given})


def check_text(name: str, text: str) -> str:
    """Return a text that can be sent. The ValueError for another one names it, and does not repeat it."""
    try:
        text.encode()
    except (UnicodeEncodeError, AttributeError):
        raise ValueError(f"{name} is not a text of valid Unicode") from None
    return text


def late() -> ContactError:
    """The error of a call that cannot be made in time."""
    return DeadlineExceeded(grpc.StatusCode.DEADLINE_EXCEEDED, message="the deadline passed before the call")


def closed() -> ContactError:
    """The error of calls after a client was closed."""
    return ContactError(grpc.StatusCode.CANCELLED, message="the client is closed")
