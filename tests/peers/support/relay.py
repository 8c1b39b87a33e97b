"""A relay that can discard the bytes of its open connections, while new ones work.

This is the effect of a lost NAT entry, a fail-over or a sidecar that hangs.
"""

import asyncio
import contextlib
import threading

from . import PATIENCE

CHUNK = 1 << 16


class Relay:
    """Forward bytes to `target`, `host:port`, in a separate thread."""

    def __init__(self, target):
        self.target = target.rsplit(":", 1)
        self.accepted = 0
        self._tasks, self._swallowing = set(), set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._run(asyncio.start_server(self._accept, "127.0.0.1", 0))
        host, port = self._server.sockets[0].getsockname()
        self.address = f"{host}:{port}"

    def _run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE)

    async def _accept(self, reader, writer):
        self.accepted += 1
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection(*self.target)
            with contextlib.closing(writer), contextlib.closing(there_writer):
                there, back = self._carry(task, reader, there_writer), self._carry(task, there_reader, writer)
                await asyncio.gather(there, back)
        except (OSError, asyncio.CancelledError):
            # One end or the relay is gone. asyncio would report a handler that ends as cancelled.
            writer.close()
        finally:
            self._tasks.discard(task)

    async def _carry(self, task, reader, writer):
        while data := await reader.read(CHUNK):
            # The discarded bytes are acknowledged, so that both ends see a working connection.
            if task not in self._swallowing:
                writer.write(data)
                await writer.drain()
        if task not in self._swallowing and writer.can_write_eof():
            writer.write_eof()

    def swallow(self):
        """Discard the bytes of the open connections from now on. Return their number."""

        async def swallow():
            self._swallowing = set(self._tasks)
            return len(self._swallowing)

        return self._run(swallow())

    def close(self):
        async def stop():
            self._server.close()
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._run(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
