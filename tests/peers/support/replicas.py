"""Replicas on one store and one sandbox, and calls of many contacts."""

import asyncio
import collections
import re
import time
import urllib.request

import grpc.aio

from hypersender.contact.v1.contact_service_pb2 import CacheStatus, GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from . import PATIENCE
from .sandbox import Sandbox
from .server import Server

# Calls of one replica in progress.
AT_A_TIME = 64


class Replicas:
    """Replicas that share a store. Each has a deadline of `PATIENCE` at most for a call."""

    def __init__(self, directory, store, count=3, flags=("--rate", "0"), environment=None):
        directory.mkdir()
        self.sandbox = Sandbox(directory / "sandbox")
        self.all = []
        shared = [*store.flags(), "--replicas", str(count), "--drain-wait", "0"]
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


def look_up(addresses, chat_ids, deadline=PATIENCE, at_a_time=AT_A_TIME):
    """Ask each address for each contact, for the same contact at about the same moment."""
    return asyncio.run(_look_up(addresses, chat_ids, deadline, at_a_time))


async def _look_up(addresses, chat_ids, deadline, at_a_time):
    calls = Calls()

    async def one(stub, chat_id):
        begin = time.monotonic()
        try:
            answer = await stub.GetProfilePicture(GetProfilePictureRequest(chat_id=chat_id), timeout=deadline)
            calls.ends[CacheStatus.Name(answer.cache_info.status)] += 1
        except grpc.aio.AioRpcError as error:
            calls.ends[f"{error.code().name}: {error.details()}"] += 1
        calls.seconds.append(time.monotonic() - begin)

    async def worker(stubs, left):
        for chat_id in left:
            await asyncio.gather(*(one(stub, chat_id) for stub in stubs))

    channels = [grpc.aio.insecure_channel(address) for address in addresses]
    stubs = [ContactServiceStub(channel) for channel in channels]
    left = iter(chat_ids)
    await asyncio.gather(*(worker(stubs, left) for _ in range(at_a_time)))
    for channel in channels:
        await channel.close()
    return calls


def contacts(count, first=15_551_700_000):
    return [str(number) for number in range(first, first + count)]


def metric(server, name, **labels):
    """The value of a metric of a server, as a number."""
    with urllib.request.urlopen(f"http://{server.admin}/metrics", timeout=PATIENCE) as answer:
        text = answer.read().decode()
    wanted = "".join(f'(?=[^}}]*{label}="{value}")' for label, value in labels.items())
    found = re.findall(rf"^{name}(?:{{{wanted}[^}}]*}})? (\S+)$", text, re.MULTILINE)
    return sum(map(float, found))
