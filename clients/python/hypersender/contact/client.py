"""The client for threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import Message
from typing_extensions import Self, Unpack

from hypersender.contact import _call, _stream
from hypersender.contact._error import ContactError, from_call
from hypersender.contact.picture import Picture, Result, to_picture, to_results
from hypersender.contact.v1 import contact_service_pb2 as pb
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

# A bearer token, or a function that returns one. It is called before each call of gRPC.
Token: TypeAlias = "str | Callable[[], str]"
Interceptor: TypeAlias = "grpc.UnaryUnaryClientInterceptor | grpc.UnaryStreamClientInterceptor"


class ContactClient(_call.Base[Token, Interceptor]):
    """Reads WhatsApp contacts from a hypersender-grpc server. Several threads may share it.

    `target` is `host:port`, or a target of gRPC with the scheme dns, ipv4, ipv6, unix or xds. Opening a
    client makes no call and never blocks. Close it, or use it in a `with`. After a fork, open another one.

    - `instance`: the instance to ask; without it, the server's default.
    - `token`: a bearer token, or a function that returns one and is called before each call.
    - `tls`: None is TLS for all targets but those on this machine, with the authorities of the system. True,
      False, the authority as PEM, or `grpc.ChannelCredentials`, which always count as TLS, override that.
    - `timeout`: the time for each call for one contact, 5 s. A batch has 30 s, and a stream no limit.
    - `user_agent`: the name and version of your program.
    - `interceptors`, `channel_options`: those of gRPC, such as the interceptors of OpenTelemetry.
    - `allow_token_in_plain_text`: send tokens without TLS to other machines.

    Opening raises ValueError. Calls raise ContactError, with a class for each reason, and ValueError for an
    argument that cannot be sent.
    """

    def _open(self) -> None:
        self._closed = threading.Event()
        self._channel = grpc.intercept_channel(self._opening.channel(grpc), *self._interceptors)
        self._stub = ContactServiceStub(self._channel)

    @property
    def channel(self) -> grpc.Channel:
        """The channel, for stubs of other services."""
        return self._channel

    @property
    def stub(self) -> ContactServiceStub:
        """The generated client. Its calls have neither the token nor the deadline of this client."""
        return self._stub

    def close(self) -> None:
        """Close the channel. Calls in progress fail with CANCELLED, and so do later ones."""
        self._closed.set()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def get_profile_picture(self, chat_id: str, **options: Unpack[_call.CallOptions[Token]]) -> Picture | None:
        """Look up one contact. None means that it has no picture, or none that the instance may see."""
        call = self._one(chat_id, options)
        response = self._start(self._stub.GetProfilePicture, call.one(), call)
        return to_picture(response.profile_picture, response.cache_info)

    def batch_get_profile_pictures(
        self, chat_ids: Iterable[str], **options: Unpack[_call.BatchOptions[Token]]
    ) -> list[Result]:
        """Look up 1 to 100 contacts, and return a result for each, in the order of `chat_ids`.

        Errors of single contacts are in their results, and are not raised.
        """
        call = self._batch(chat_ids, options)
        response = self._start(self._stub.BatchGetProfilePictures, call.batch(), call)
        return to_results(response.results, call.chat_ids)

    def stream_profile_pictures(
        self, chat_ids: Iterable[str], **options: Unpack[_call.StreamOptions[Token]]
    ) -> Generator[Result, None, None]:
        """Look up any number of contacts, and yield the result of each as soon as it is known, exactly once.

        A stream that breaks is resumed: the missing contacts are asked for again, after the wait that the
        server asks for or a growing one. It raises ContactError when the same call would fail again, after
        ten calls in a row without a result, and at the timeout. The results before it stay valid. Leaving the
        loop cancels the call.
        """
        return self._stream(_stream.Run(self._call(chat_ids, options, None)))

    def _start(self, method: Any, request: Message, call: _call.Call) -> Any:
        metadata = self._opening.metadata(call.token() or "" if callable(call.token) else call.token)
        if call.left() == 0:
            # gRPC would still accept a fast answer.
            raise _call.late()
        try:
            return method(request, timeout=call.left(), metadata=metadata)
        except grpc.RpcError as failed:
            raise from_call(failed, self._opening.explain) from failed
        except ValueError:
            # gRPC makes no call through a closed channel.
            if not self._closed.is_set():
                raise
            raise _call.closed() from None

    def _stream(self, run: _stream.Run) -> Generator[Result, None, None]:
        while run.missing:
            if self._closed.wait(run.wait):
                raise _call.closed()
            started = self._start(self._stub.StreamProfilePictures, run.request(), run.call)
            reader = _Reader(started, self._opening.explain)
            try:
                while run.reading:
                    if result := run.take(reader.read()):
                        yield result
            finally:
                reader.end()


class _Reader:
    """Reads the messages of a call, and ends the call when none comes for a time.

    It has a thread, because gRPC has no time limit for one message. The time that the loop over the messages
    takes for itself does not count.
    """

    def __init__(self, call: Any, explain: Callable[[str], str]) -> None:
        self._call, self._explain, self._ended = call, explain, threading.Event()
        self._since, self._silent = math.inf, False
        # OpenTelemetry returns a generator, which no other thread can end. Keep-alive ends most of them.
        if hasattr(call, "cancel"):
            threading.Thread(target=self._watch, name="hypersender-contact-silence", daemon=True).start()

    def read(self) -> pb.StreamProfilePicturesResponse | ContactError | None:
        """Return the next message, None at the end, or the error that ended the call."""
        self._since = time.monotonic()
        try:
            message: pb.StreamProfilePicturesResponse | None = next(self._call, None)
            return message
        except grpc.RpcError as failed:
            return _stream.silent() if self._silent else from_call(failed, self._explain)
        finally:
            self._since = math.inf

    def end(self) -> None:
        self._ended.set()
        (self._call.cancel if hasattr(self._call, "cancel") else self._call.close)()

    def _watch(self) -> None:
        while not self._ended.wait(min(self._since + _stream.SILENCE - time.monotonic(), _stream.SILENCE)):
            if time.monotonic() - self._since >= _stream.SILENCE:
                self._silent = True
                self._call.cancel()
                return
