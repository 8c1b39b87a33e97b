"""Replicas on one store and one sandbox, and calls of many contacts."""

import asyncio
import collections
import contextlib
import itertools
import re
import threading
import time
import urllib.request

import grpc.aio

from hypersender.contact.v1.contact_service_pb2 import CacheStatus, GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from . import PATIENCE
from .sandbox import Sandbox
from .server import Server

# Contacts that are asked for at the same time.
AT_A_TIME = 64
# Calls a second while something happens to the store.
RATE = 100


class Replicas:
    """Replicas that share a store."""

    # An operation of the store has more time than usual, because one that is late on a busy machine would
    # cost a request.
    def __init__(
        self, directory, store, count=3, flags=("--rate", "0"), environment=None, drain_wait="0", timeout="2s"
    ):
        directory.mkdir()
        self.sandbox = Sandbox(directory / "sandbox")
        self.all = []
        shared = [*store.flags(), "--replicas", str(count), "--drain-wait", drain_wait, "--store-timeout", timeout]
        settings = self.sandbox.settings | (environment or {})
        try:
            for index in range(count):
                replica = Server(directory / str(index), *shared, *flags, environment=settings)
                self.all.append(replica)
        except BaseException:
            self.close()
            raise

    def __iter__(self):
        return iter(self.all)

    def __getitem__(self, index):
        return self.all[index]

    @property
    def addresses(self):
        return [replica.address for replica in self.all]

    def attached(self):
        """Whether each replica says that the store answers."""
        return [bool(metric(replica, "hypersender_store_attached")) for replica in self.all]

    def asked(self, chat_ids):
        """The number of requests to Hypersender for these contacts."""
        asked = self.sandbox.asked()
        return sum(asked.get(chat_id, 0) for chat_id in chat_ids)

    def close(self):
        for replica in self.all:
            replica.close()
        self.sandbox.close()


class Calls:
    """The ends of calls: cache status or error, and the seconds that each took."""

    def __init__(self):
        self.ends = collections.Counter()
        self.seconds = []

    async def one(self, stub, deadline, **request):
        """Make a call and note its end."""
        begin = time.monotonic()
        try:
            answer = await stub.GetProfilePicture(GetProfilePictureRequest(**request), timeout=deadline)
            self.ends[CacheStatus.Name(answer.cache_info.status)] += 1
        except grpc.aio.AioRpcError as error:
            self.ends[f"{error.code().name}: {error.details()}"] += 1
        self.seconds.append(time.monotonic() - begin)

    def check(self, count):
        """All of `count` calls were answered."""
        failed = {end: calls for end, calls in self.ends.items() if end not in CacheStatus.keys()}
        assert not failed, failed
        assert self.ends.total() == count, self.ends

    @property
    def slowest(self):
        return max(self.seconds)

    def __str__(self):
        ends = ", ".join(f"{calls} {end.removeprefix('CACHE_STATUS_')}" for end, calls in self.ends.most_common())
        return f"{ends}, slowest {self.slowest:.2f} s"


def look_up(addresses, chat_ids, deadline=PATIENCE, at_a_time=AT_A_TIME, **request):
    """Ask each address for each contact, for the same contact at about the same moment."""
    calls = Calls()

    async def worker(stubs, left):
        for chat_id in left:
            await asyncio.gather(*(calls.one(stub, deadline, chat_id=chat_id, **request) for stub in stubs))

    async def all_of_them():
        async with connected(addresses) as stubs:
            left = iter(chat_ids)
            await asyncio.gather(*(worker(stubs, left) for _ in range(at_a_time)))

    asyncio.run(all_of_them())
    return calls


@contextlib.asynccontextmanager
async def connected(addresses):
    """A stub for each address."""
    async with contextlib.AsyncExitStack() as stack:
        channels = [grpc.aio.insecure_channel(address) for address in addresses]
        for channel in channels:
            await stack.enter_async_context(channel)
        yield [ContactServiceStub(channel) for channel in channels]


class Traffic:
    """Calls for new contacts, at a steady rate and of each address in turn, until `stop`."""

    def __init__(self, addresses, first, rate=RATE):
        self.addresses, self.rate = addresses, rate
        self.chat_ids = []
        self.calls = Calls()
        self._next = itertools.count(first)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._thread.start()

    async def _run(self):
        begun = []
        async with connected(self.addresses) as stubs:
            for stub in itertools.cycle(stubs):
                if self._stop.is_set():
                    break
                chat_id = str(next(self._next))
                self.chat_ids.append(chat_id)
                begun.append(asyncio.create_task(self.calls.one(stub, PATIENCE, chat_id=chat_id)))
                await asyncio.sleep(1 / self.rate)
            await asyncio.gather(*begun)

    def stop(self):
        """Wait for the end of the calls, all of which must have been answered, and return them."""
        self._stop.set()
        self._thread.join(2 * PATIENCE)
        self.calls.check(len(self.chat_ids))
        return self.calls

    def close(self):
        self._stop.set()


def contacts(count, first=15_551_700_000):
    return [str(number) for number in range(first, first + count)]


def metric(server, name, **labels):
    """The value of a metric of a server, as a sum over the labels that are not named."""
    with urllib.request.urlopen(f"http://{server.admin}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    wanted = "".join(f'(?=[^}}]*{label}="{value}")' for label, value in labels.items())
    found = re.findall(rf"^{name}(?:{{{wanted}[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))
