"""How a channel is opened: the target, TLS, the token, and the options of gRPC."""

from __future__ import annotations

import ipaddress
import math
import os
import re
import ssl
from collections.abc import Sequence
from datetime import timedelta
from importlib import resources
from typing import Any, TypeAlias

import grpc

VERSION = "0.1.0"

# The authority of the server's certificate as PEM, or whether to speak TLS at all. None: TLS for all targets
# but those on this machine.
Tls: TypeAlias = "bool | bytes | grpc.ChannelCredentials | None"
# Seconds.
Time: TypeAlias = "float | timedelta"

_OPTIONS = {
    # Connections end after a minute when a firewall or a NAT has forgotten them.
    "grpc.keepalive_time_ms": 30_000,
    "grpc.keepalive_timeout_ms": 20_000,
    # Pauses between connections must be shorter than those of a stream between its calls, because a call
    # during such a pause fails. The second option is also the time in which a connection must be made.
    "grpc.initial_reconnect_backoff_ms": 200,
    "grpc.min_reconnect_backoff_ms": 2_000,
    "grpc.max_reconnect_backoff_ms": 2_000,
}


# What gRPC says when a connection cannot be made because of TLS, for a client that speaks plain text or not,
# and what to change.
_TLS_FAULTS = [
    (
        True,
        "Socket closed|reset by peer|http1.x server|End of TCP stream",
        "the server closes the connection: if it speaks TLS, open the client with tls=True",
    ),
    (
        False,
        "CERTIFICATE_VERIFY_FAILED|Peer name|Hostname Verification",
        "the server's certificate is for another name, or not trusted: see the option tls, which takes a PEM",
    ),
    (
        False,
        "TSI_DATA_CORRUPTED|Secure read failed",
        "the server ends TLS: if it asks for a client certificate, open the client with tls=credentials of gRPC",
    ),
    (
        False,
        "WRONG_VERSION_NUMBER|[Hh]andshake|reset by peer|Socket closed",
        "the server does not speak TLS: if it speaks plain text, open the client with tls=False",
    ),
]


class Opening:
    """What a client is opened with, checked. `plain` says whether the channel speaks plain text."""

    def __init__(
        self,
        target: str,
        tls: Tls,
        user_agent: str,
        options: Sequence[tuple[str, Any]],
        token_in_plain_text: bool,
    ) -> None:
        self._target, loopback = read_target(target)
        if not isinstance(tls, bool | bytes | grpc.ChannelCredentials | None):
            raise ValueError("tls is none of True, False, a PEM as bytes, and grpc.ChannelCredentials")
        self.plain = loopback if tls is None else tls is False
        self._tls, self._token_allowed = tls, not self.plain or loopback or token_in_plain_text
        if not re.fullmatch("[ -~]*", user_agent):
            raise ValueError("user_agent has characters other than visible ASCII")
        self._options = {
            "grpc.primary_user_agent": f"{user_agent} hypersender-contact-python/{VERSION}".lstrip(),
            "grpc.service_config": resources.files(__package__).joinpath("service_config.json").read_text(),
            **_OPTIONS,
        }
        if "," in self._target:
            self._options["grpc.default_authority"] = self._target.partition(":")[2].partition(",")[0]
        if loopback:
            # A proxy of the environment would get the token, and cannot reach this machine.
            self._options["grpc.enable_http_proxy"] = 0
        self._options.update(options)

    def channel(self, library: Any, **arguments: Any) -> Any:
        """Open a channel of `grpc` or `grpc.aio`."""
        options = list(self._options.items())
        if self.plain:
            return library.insecure_channel(self._target, options, **arguments)
        credentials = self._tls
        if not isinstance(credentials, grpc.ChannelCredentials):
            roots = credentials if isinstance(credentials, bytes) else _system_roots()
            credentials = grpc.ssl_channel_credentials(roots)
        return library.secure_channel(self._target, credentials, options, **arguments)

    def metadata(self, token: str | None) -> list[tuple[str, str]]:
        """The metadata with a token. Raises ValueError, which never has the token, if it cannot be sent."""
        if token is None:
            return []
        if not re.fullmatch("[!-~]+", token.strip()):
            raise ValueError("the token is empty, or has characters other than visible ASCII")
        if not self._token_allowed:
            raise ValueError(
                "a token would travel in plain text: use TLS, or open the client with allow_token_in_plain_text=True"
            )
        return [("authorization", f"Bearer {token.strip()}")]

    def explain(self, message: str) -> str:
        """Add what to change to the message of an error, if there is no connection and TLS is the cause."""
        if re.search("all backends failing|connect to all addresses", message):
            for plain, cause, advice in _TLS_FAULTS:
                if plain is self.plain and re.search(cause, message):
                    return f"{advice} ({message})"
        return message


def _system_roots() -> bytes | None:
    """The authorities that the system trusts. None stands for the list in grpcio, a copy of Mozilla's."""
    if os.environ.get("GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"):
        return None
    roots = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(map(ssl.DER_cert_to_PEM_cert, roots)).encode() or None


def read_target(target: str) -> tuple[str, bool]:
    """Return the target for gRPC, and whether every address is on this machine.

    Raises ValueError, whose text does not repeat the target: it may hold a password.
    """
    if not target:
        raise ValueError("the target is empty; it is written as host:port")
    if not re.fullmatch("[!-~]+", target):
        raise ValueError("the host of the target has white space, or other characters than visible ASCII")
    scheme, colon, rest = target.partition(":")
    if scheme in ("unix", "unix-abstract") and colon:
        return target, True
    if scheme == "xds" and rest.startswith("///"):
        return target, False
    if scheme in ("ipv4", "ipv6"):
        addresses = [_is_loopback(address) for address in rest.split(",")]
        return target, all(addresses)
    if "://" in target and scheme != "dns":
        raise ValueError("the scheme of the target is none of dns, ipv4, ipv6, unix, unix-abstract and xds")
    if scheme == "dns" and not rest.isdigit():
        name_server, _, address = rest[2:].rpartition("/") if rest.startswith("//") else ("", "", rest)
        # Another name server may know another localhost.
        return target, _is_loopback(address) and not name_server
    return f"dns:///{target}", _is_loopback(target)


def _is_loopback(address: str) -> bool:
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        raise ValueError("the target has no port; it is written as host:port")
    name = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if "/" in address or not re.fullmatch(r"[\w.-]+" if name is host else r"[\w:.%]+", name):
        raise ValueError("the host of the target is not a name or an address; an IPv6 address is written in brackets")
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError("the port of the target is not a number from 1 to 65535")
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return name.lower().removesuffix(".") == "localhost"


def seconds(name: str, value: Time | None) -> float | None:
    """Return a time in seconds. Raises ValueError for a number that no time has."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    # The longest time of protobuf is 10,000 years.
    if value is not None and not (math.isfinite(value) and 0 <= value <= 315_576_000_000):
        raise ValueError(f"{name} is not a number of seconds from 0 on")
    return value
