"""Calls by each client library, and the answers that the library reports."""

import base64
import dataclasses
import json
import subprocess
import time
from pathlib import Path

import grpc
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from hypersender.contact.v1.contact_service_pb2 import GetProfilePictureRequest, GetProfilePictureResponse

from . import CLIENTS, HERE, METHOD, PATIENCE, SERVICE, program, tool
from .envoy import descriptors

PROTOS = HERE.parents[1] / "proto"
SERVICE_CONFIG = (CLIENTS / "service_config.json").read_text()


@dataclasses.dataclass
class Answer:
    """The end of a call, as its client reports it."""

    code: grpc.StatusCode
    message: str
    # Seconds.
    took: float
    reason: str | None = None
    # Seconds to wait, from RetryInfo.
    retry_delay: float | None = None
    # The trailer grpc-retry-pushback-ms, in milliseconds.
    pushback: int | None = None

    def __str__(self):
        wait = "" if self.retry_delay is None else f", to be repeated after {self.retry_delay:.2f} s"
        return f"{self.code.name} {self.reason or self.message!r} after {self.took:.2f} s{wait}"


@dataclasses.dataclass
class Asked:
    """The parameters of calls. The refused calls differ in the parameter that is wrong."""

    chat_id: str = "15551230001"
    method: str = METHOD.rpartition("/")[2]
    token: str | None = None
    # Seconds.
    deadline: float = 10
    calls: int = 1
    # Concurrent calls. Only the clients in Node.js support more than one.
    at_a_time: int = 1
    service_config: str | None = None


def ask(client, address, directory, **asked):
    """Make calls with `client` and return its answers. `directory` is for its files."""
    asked = Asked(**asked)
    if client == "grpcio":
        return _grpcio(address, asked)
    if client == "grpc-go":
        assert (asked.method, asked.token, asked.at_a_time) == (Asked.method, None, 1), "the program knows no such flag"
        command = [tool("ask"), "-address", address, "-chat-id", asked.chat_id, "-deadline", f"{asked.deadline}s"]
        command += ["-calls", str(asked.calls), "-service-config", asked.service_config or ""]
    else:
        node, found = Path(program("NODE_BIN")), directory / "descriptors"
        found.write_bytes(descriptors())
        options = {**dataclasses.asdict(asked), "deadline_ms": int(1000 * asked.deadline)}
        command = [node, node.parent / "caller.mjs", client, address, PROTOS, found, json.dumps(options)]
    patience = PATIENCE + asked.calls * asked.deadline / asked.at_a_time
    done = subprocess.run(command, capture_output=True, text=True, timeout=patience, env={}, check=False)
    assert done.returncode == 0, done.stderr
    return [answer(**json.loads(line)) for line in done.stdout.splitlines()]


def answer(code, message, seconds=0.0, status=None, details=None, pushback=None):
    """The answer whose parts a client printed. The status and the values of its details are in Base64."""
    if details is None:
        told = status_pb2.Status.FromString(base64.b64decode(status or ""))
        details = [(detail.TypeName(), detail.value) for detail in told.details]
    else:
        details = [(name, base64.b64decode(value)) for name, value in details]
    codes = {code.value[0]: code for code in grpc.StatusCode}
    found = Answer(codes[code], message, seconds, pushback=None if pushback is None else int(pushback))
    for name, value in details:
        if name == error_details_pb2.ErrorInfo.DESCRIPTOR.full_name:
            found.reason = error_details_pb2.ErrorInfo.FromString(value).reason
        elif name == error_details_pb2.RetryInfo.DESCRIPTOR.full_name:
            found.retry_delay = error_details_pb2.RetryInfo.FromString(value).retry_delay.ToMicroseconds() / 1e6
    return found


def _grpcio(address, asked):
    options = [("grpc.service_config", asked.service_config)] if asked.service_config else []
    metadata = [("authorization", f"Bearer {asked.token}")] if asked.token else []
    with grpc.insecure_channel(address, options=options) as channel:
        call = channel.unary_unary(
            f"/{SERVICE}/{asked.method}",
            request_serializer=GetProfilePictureRequest.SerializeToString,
            response_deserializer=GetProfilePictureResponse.FromString,
        )
        answers = []
        for _ in range(asked.calls):
            begin = time.monotonic()
            try:
                call(GetProfilePictureRequest(chat_id=asked.chat_id), timeout=asked.deadline, metadata=metadata)
                answers.append(Answer(grpc.StatusCode.OK, "", time.monotonic() - begin))
            except grpc.RpcError as error:
                status = rpc_status.from_call(error)
                answers.append(
                    answer(
                        error.code().value[0],
                        error.details(),
                        time.monotonic() - begin,
                        status=base64.b64encode(status.SerializeToString()) if status else None,
                        pushback=dict(error.trailing_metadata() or ()).get("grpc-retry-pushback-ms"),
                    )
                )
    return answers
