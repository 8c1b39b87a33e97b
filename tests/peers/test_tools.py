"""The tools of operators: grpcurl, grpc_health_probe, and `hypersender-grpc health`."""

import json
import subprocess

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from support import METHOD, PATIENCE, SERVICE, program, tool
from support.server import Server

# The exit code of grpcurl for a failed call is 64 plus the gRPC code.
INVALID_ARGUMENT, NOT_FOUND = 64 + 3, 64 + 5
# The exit codes of grpc_health_probe.
CONNECTION_FAILED, CALL_FAILED, UNHEALTHY = 2, 3, 4
# No process listens on this port, which is reserved for a multiplexer that is no longer in use.
NOBODY = "127.0.0.1:1"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, env={})


def grpcurl(*arguments):
    return run(tool("grpcurl"), "-plaintext", "-format-error", *arguments)


def test_grpcurl_finds_its_way_by_reflection(server):
    listed = grpcurl(server.address, "list")
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= set(listed.stdout.split())
    described = grpcurl(server.address, "describe", "hypersender.contact.v1.GetProfilePictureRequest")
    assert "string chat_id = 2;" in described.stdout
    assert "// Required. Contact: a phone number in digits" in described.stdout, "comments travel with the contract"

    answer = grpcurl("-d", '{"chat_id":"15551230001"}', server.address, METHOD)
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["profilePicture"]["state"] == "PROFILE_PICTURE_STATE_PRESENT"


def test_grpcurl_shows_the_details_of_errors(server):
    rows = [
        ("15551230006", NOT_FOUND, "NOT_ON_WHATSAPP", None),
        ("abc", INVALID_ARGUMENT, "CHAT_ID_INVALID", "chat_id"),
    ]
    for chat_id, code, reason, field in rows:
        answer = grpcurl("-d", json.dumps({"chat_id": chat_id}), server.address, METHOD)
        assert answer.returncode == code, answer.stderr
        details = {detail["@type"].rpartition(".")[2]: detail for detail in json.loads(answer.stderr)["details"]}
        assert (details["ErrorInfo"]["reason"], details["ErrorInfo"]["domain"]) == (reason, "hypersender-grpc")
        if field:
            assert [violation["field"] for violation in details["BadRequest"]["fieldViolations"]] == [field]


def test_reflection_in_its_older_version(server):
    # grpcurl uses v1 and never tries the older version. grpcio knows only the older version.
    with grpc.insecure_channel(server.address) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        assert SERVICE in database.get_services()
        service = DescriptorPool(database).FindServiceByName(SERVICE)
        methods = [method.name for method in service.methods]
        assert methods == ["GetProfilePicture", "BatchGetProfilePictures", "StreamProfilePictures"]


def test_probes(started, tmp_path):
    # The port stays open for longer than the probes of a drain take.
    server = started(Server(tmp_path / "server", "--drain-wait", "10s"))
    binary, probe = program("HYPERSENDER_GRPC_BIN"), tool("grpc-health-probe")

    def probed(address, *flags):
        return run(probe, "-addr", address, *flags).returncode

    def ours(address):
        return run(binary, "health", "--address", address)

    assert probed(server.address) == 0
    assert probed(server.address, "-service", SERVICE) == 0
    assert probed(server.address, "-service", "unheard.of") == CALL_FAILED
    assert probed(NOBODY) == CONNECTION_FAILED
    assert (ours(server.address).returncode, ours(server.address).stdout) == (0, "SERVING\n")
    assert ours(NOBODY).returncode == 1

    server.terminate()
    assert probed(server.address, "-service", SERVICE) == UNHEALTHY
    assert probed(server.address) == UNHEALTHY
    assert "NOT_SERVING" in ours(server.address).stderr
    assert ours(server.address).returncode == 1
    assert grpcurl("-d", '{"chat_id":"15551230001"}', server.address, METHOD).returncode == 0, "calls are still taken"
    server.wait()
    assert ours(server.address).returncode == 1
    assert probed(server.address) == CONNECTION_FAILED
