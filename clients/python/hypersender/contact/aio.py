"""The client for asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from weakref import WeakSet

import grpc
import grpc.aio
from google.protobuf.message import Message
from typing_extensions import Self, Unpack

from hypersender.contact import _call, _stream
from hypersender.contact._error import ContactError, from_call
from hypersender.contact.picture import Picture, Result, to_picture, to_results
from hypersender.contact.v1 import contact_service_pb2 as pb
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

if TYPE_CHECKING:
    from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceAsyncStub

T = TypeVar("T")

# A bearer token, or a function or a coroutine function that returns one and is called before each call.
AsyncToken: TypeAlias = "str | Callable[[], str | Awaitable[str]]"


class AsyncContactClient(_call.Base[AsyncToken, grpc.aio.ClientInterceptor]):
    """ContactClient for asyncio, with the same arguments. Use it in an `async with`.

    It belongs to the event loop of its first call, and can be opened before that loop runs. `token` may be a
    coroutine function. When a task is cancelled, its call ends, and asyncio.CancelledError passes through.
    """

    _channel: grpc.aio.Channel | None = None

    def _open(self) -> None:
        self._closed, self._open_calls = asyncio.Event(), WeakSet[Any]()

    @property
    def channel(self) -> grpc.aio.Channel:
        """The channel, for stubs of other services. Only for the event loop of the client."""
        loop = asyncio.get_running_loop()
        if self._channel is None:
            self._channel = self._opening.channel(grpc.aio, interceptors=list(self._interceptors))
            self._loop, self._stub = loop, ContactServiceStub(self._channel)
        if self._loop is not loop:
            raise RuntimeError("the client belongs to another event loop: open a client in each loop")
        return self._channel

    @property
    def stub(self) -> ContactServiceAsyncStub:
        """The generated client. Its calls have neither the token nor the deadline of this client."""
        _ = self.channel
        return self._stub

    async def close(self) -> None:
        """Close the channel. Calls in progress fail with CANCELLED, and so do later ones."""
        self._closed.set()
        # gRPC itself does not end a stream while no task reads from it.
        for call in list(self._open_calls):
            call.cancel()
        if self._channel is not None:
            await self._channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def get_profile_picture(
        self, chat_id: str, **options: Unpack[_call.CallOptions[AsyncToken]]
    ) -> Picture | None:
        """Look up one contact, as ContactClient.get_profile_picture does."""
        call = self._one(chat_id, options)
        response = await self._unary("GetProfilePicture", call.one(), call)
        return to_picture(response.profile_picture, response.cache_info)

    async def batch_get_profile_pictures(
        self, chat_ids: Iterable[str], **options: Unpack[_call.BatchOptions[AsyncToken]]
    ) -> list[Result]:
        """Look up 1 to 100 contacts, as ContactClient.batch_get_profile_pictures does."""
        call = self._batch(chat_ids, options)
        response = await self._unary("BatchGetProfilePictures", call.batch(), call)
        return to_results(response.results, call.chat_ids)

    def stream_profile_pictures(
        self, chat_ids: Iterable[str], **options: Unpack[_call.StreamOptions[AsyncToken]]
    ) -> AsyncGenerator[Result, None]:
        """Look up any number of contacts, as ContactClient.stream_profile_pictures does.

        Leaving an `async for` over it cancels the call as soon as the generator is collected: at once if
        nothing else refers to it. `contextlib.aclosing` does so in every case.
        """
        return self._stream(_stream.Run(self._call(chat_ids, options, None)))

    async def _start(self, name: str, request: Message, call: _call.Call) -> Any:
        """Start a call, and return it."""
        token = call.token() if callable(call.token) else call.token
        if inspect.isawaitable(token):
            # Closing the client ends the wait.
            self._open_calls.add(asked := asyncio.ensure_future(token))
            token = await _settled(asked, call.left(), _call.late)
        metadata = self._opening.metadata(token if call.token is None else token or "")
        if self._closed.is_set():
            raise _call.closed()
        if call.left() == 0:
            # gRPC would still accept a fast answer.
            raise _call.late()
        started = getattr(self.stub, name)(request, timeout=call.left(), metadata=metadata)
        self._open_calls.add(started)
        return started

    async def _unary(self, name: str, request: Message, call: _call.Call) -> Any:
        started = await self._start(name, request, call)
        try:
            return await _settled(started)
        except grpc.RpcError as failed:
            raise from_call(failed, self._opening.explain) from failed

    async def _stream(self, run: _stream.Run) -> AsyncGenerator[Result, None]:
        while run.missing:
            with contextlib.suppress(ContactError):
                # Closing the client ends the wait.
                await _settled(self._closed.wait(), run.wait)
            started = await self._start("StreamProfilePictures", run.request(), run.call)
            try:
                while run.reading:
                    if result := run.take(await self._read(started)):
                        yield result
            finally:
                started.cancel()

    async def _read(self, started: Any) -> pb.StreamProfilePicturesResponse | ContactError | None:
        """Return the next message of a stream, None at its end, or the error that ended it."""
        try:
            message: Any = await _settled(started.read(), _stream.SILENCE)
            return None if message is grpc.aio.EOF else message
        except grpc.RpcError as failed:
            return from_call(failed, self._opening.explain)
        except ContactError as failed:
            return failed


async def _settled(
    awaitable: Awaitable[T], limit: float | None = None, late: Callable[[], ContactError] = _stream.silent
) -> T:
    """Wait for a call of gRPC, or for one of its messages; after `limit` seconds raise the error `late`.

    It has a task of its own. gRPC and its interceptors raise asyncio.CancelledError when a call is cancelled,
    which becomes a ContactError here. So an asyncio.CancelledError is always that of the caller's task.
    """
    task = asyncio.ensure_future(awaitable)
    # Without this, asyncio logs an error that comes after a cancellation.
    task.add_done_callback(lambda task: task.cancelled() or task.exception())
    try:
        done, _ = await asyncio.wait({task}, timeout=limit)
    finally:
        task.cancel()
    if not done:
        raise late()
    if task.cancelled():
        raise ContactError(grpc.StatusCode.CANCELLED, message="the call was cancelled")
    return task.result()
