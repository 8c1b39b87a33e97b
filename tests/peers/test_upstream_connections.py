"""Connections to Hypersender that end, or that die without a FIN, cost few calls."""

import asyncio
import time

import grpc
import pytest

from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub

from support.debian import NginxOfApi
from support.envoy import EnvoyOfApi
from support.relay import Relay
from support.sandbox import Sandbox
from support.server import Server
from support.tls import Certificates

# Seconds until the first success: 10 at most, and 5 more for a busy machine. A test gives up later.
LIMIT, PATIENCE = 15, 40


@pytest.fixture
def sandbox(started, tmp_path):
    return started(Sandbox(tmp_path / "sandbox"))


@pytest.fixture
def certificates(tmp_path):
    return Certificates(tmp_path / "certificates")


class Contacts:
    """Contacts that are asked for only once, so that no answer comes from the cache."""

    def __init__(self, address):
        self.address = address
        self.next = 15550000000

    async def ask(self, stub, instance, deadline=10):
        self.next += 1
        request = GetProfilePictureRequest(instance=instance, chat_id=str(self.next))
        try:
            await stub.GetProfilePicture(request, timeout=deadline)
            return "OK"
        except grpc.aio.AioRpcError as error:
            return f"{error.code().name}: {error.details()}"

    async def ask_at_once(self, calls):
        """The outcomes of calls that begin together, one for each instance in `calls`."""
        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = ContactServiceStub(channel)
            return await asyncio.gather(*(self.ask(stub, instance) for instance in calls))

    async def until_success(self, instances):
        """The seconds until a call of each instance succeeds, or None. It makes one call at a time."""
        begin = time.monotonic()

        async def keep_asking(stub, instance):
            while time.monotonic() < begin + PATIENCE:
                if await self.ask(stub, instance) == "OK":
                    return time.monotonic() - begin
                await asyncio.sleep(0.2)
            return None

        async with grpc.aio.insecure_channel(self.address) as channel:
            stub = ContactServiceStub(channel)
            return await asyncio.gather(*(keep_asking(stub, instance) for instance in instances))


# An instance has one connection of HTTP/2, or one of HTTP/1.1 for each of its concurrent calls.
@pytest.mark.parametrize(
    "protocol, count, calls", [("HTTP/1.1", 1, 10), ("HTTP/1.1", 40, 1), ("HTTP/2", 1, 1), ("HTTP/2", 40, 1)]
)
def test_dead_connections_to_the_api_are_left_in_time(
    protocol, count, calls, sandbox, certificates, started, tmp_path, figure
):
    if protocol == "HTTP/2":
        envoy = started(EnvoyOfApi(tmp_path / "envoy", sandbox, certificates))
        relay = started(Relay(envoy.address))
        settings = sandbox.reached_at(relay.address, certificates.ca)
    else:
        relay = started(Relay(sandbox.address))
        settings = sandbox.reached_at(relay.address)
    server = started(Server(tmp_path / "server", environment=settings))
    instances = [f"instance-{number}" for number in range(count)]
    contacts = Contacts(server.address)
    assert set(asyncio.run(contacts.ask_at_once(instances * calls))) == {"OK"}
    swallowed = relay.swallow()
    assert swallowed > 0, "there is no connection to be lost"
    seconds = asyncio.run(contacts.until_success(instances))
    succeeded = [passed for passed in seconds if passed is not None]
    failed = f", {len(seconds) - len(succeeded)} of {count} instances without one in {PATIENCE} s"
    figure(
        f"{swallowed} connections lost; first success after {min(succeeded):.1f} s, the last instance's after "
        f"{max(succeeded):.1f} s{failed if None in seconds else ''}"
        if succeeded
        else f"{swallowed} connections lost{failed}"
    )
    assert len(succeeded) == count
    assert max(succeeded) < LIMIT


@pytest.mark.parametrize(
    "proxy, requests, instances",
    [(EnvoyOfApi, 10, 1), (NginxOfApi, 10, 1), (NginxOfApi, 1, 1), (NginxOfApi, 1, 4)],
)
def test_connections_that_the_api_ends_in_good_order_cost_no_call(
    proxy, requests, instances, sandbox, certificates, started, tmp_path, figure
):
    """Twenty cold contacts of each instance at once, over connections that end after some requests."""
    front = started(proxy(tmp_path / "proxy", sandbox, certificates, requests=requests))
    server = started(Server(tmp_path / "server", environment=sandbox.reached_at(front.address, certificates.ca)))
    contacts = Contacts(server.address)
    failures = []
    for number in range(6):
        # Each round has new instances, whose rate limits are unused.
        calls = [f"instance-{number}-{instance}" for instance in range(instances)] * 20
        failures.append([answer for answer in asyncio.run(contacts.ask_at_once(calls)) if answer != "OK"])
    figure(f"failed calls of {20 * instances}: " + ", ".join(str(len(failed)) for failed in failures))
    assert not any(failures), failures
