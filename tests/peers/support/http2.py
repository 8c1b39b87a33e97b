"""HTTP/2 by hand, because a library refuses to send the frames of hostile peers."""

import collections
import socket
import struct
import time

import hpack

from . import METHOD, PATIENCE

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
ACK = END_STREAM = 0x1
END_HEADERS = 0x4
CANCEL = 8
INITIAL_WINDOW_SIZE = 4
WINDOW_MAX = 2**31 - 1
ERRORS = (
    "NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT STREAM_CLOSED FRAME_SIZE_ERROR "
    "REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR ENHANCE_YOUR_CALM"
).split()
# Seconds for a connection. With a full accept queue it may need a second SYN.
OPENED = 10
# Seconds that a write may wait for the server to read. The server may slow down a flood in this way.
HELD_BACK = 1


def frame(kind, flags=0, stream=0, payload=b""):
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def settings(**values):
    names = {"initial_window_size": INITIAL_WINDOW_SIZE}
    return frame(SETTINGS, payload=b"".join(struct.pack(">HI", names[name], value) for name, value in values.items()))


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, stream=stream, payload=struct.pack(">I", increment))


def reset(stream):
    return frame(RST_STREAM, stream=stream, payload=struct.pack(">I", CANCEL))


def header(name, value):
    """A literal without indexing (RFC 7541, 6.2.2)."""
    return b"\0" + _string(name) + _string(value)


def _string(text):
    data = text.encode()
    if len(data) < 127:
        return bytes([len(data)]) + data
    rest, prefix = len(data) - 127, b"\x7f"
    while rest >= 128:
        prefix, rest = prefix + bytes([rest % 128 + 128]), rest // 128
    return prefix + bytes([rest]) + data


def request_headers(method=METHOD, extra=(), content_type="application/grpc"):
    fields = [(":method", "POST"), (":scheme", "http"), (":path", f"/{method}"), (":authority", "localhost")]
    fields += [("content-type", content_type), ("te", "trailers"), *extra]
    return b"".join(header(name, value) for name, value in fields)


REQUEST_HEADERS = request_headers()


def message(body, length=None):
    """A gRPC message. `length` may be wrong."""
    return b"\0" + struct.pack(">I", len(body) if length is None else length) + body


# A GetProfilePictureRequest with a chat_id, which is field 2.
REQUEST = message(b"\x12\x0b15551230001")


def begin(stream, headers=REQUEST_HEADERS):
    return frame(HEADERS, END_HEADERS, stream, headers)


def call(stream):
    return begin(stream) + frame(DATA, END_STREAM, stream, REQUEST)


class Connection:
    """A connection that sends any bytes and records the frames that come back."""

    def __init__(self, server, opening=PREFACE + settings()):
        self.socket = socket.create_connection((server.host, server.port), timeout=OPENED)
        self.unread = b""
        self.closed = False
        self.windows = collections.Counter()
        self.end = None
        self.send(opening)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        """Send the bytes, or raise OSError."""
        self.socket.settimeout(HELD_BACK)
        self.socket.sendall(data)

    def read(self, seconds=0.0):
        """Read the bytes that have arrived. With `seconds`, wait that long for the first one."""
        try:
            while not self.closed:
                self.socket.settimeout(seconds)
                data = self.socket.recv(1 << 16)
                self.closed = not data
                self._take(data)
                seconds = 0.0
        except (BlockingIOError, TimeoutError):
            pass
        except OSError:
            self.closed = True
        return not self.closed

    def _take(self, data):
        self.unread += data
        while len(self.unread) >= 9:
            length = int.from_bytes(self.unread[:3], "big")
            if len(self.unread) < 9 + length:
                return
            kind, stream = self.unread[3], int.from_bytes(self.unread[5:9], "big")
            flags = self.unread[4]
            payload, self.unread = self.unread[9 : 9 + length], self.unread[9 + length :]
            self._note(kind, flags, stream, payload)
            if kind == GOAWAY:
                self.end = ERRORS[int.from_bytes(payload[4:8], "big")]
            elif kind == WINDOW_UPDATE:
                self.windows[stream] += int.from_bytes(payload, "big")

    def _note(self, kind, flags, stream, payload):
        """A hook for subclasses that need the frames."""

    def outcome(self):
        """The end of the connection, in a word for a table."""
        self.read(0.1)
        return self.end or ("closed" if self.closed else "open")


class Caller(Connection):
    """A connection that collects the status of each stream: of gRPC, or else of HTTP."""

    def __init__(self, server, opening=PREFACE + settings()):
        self._decoder = hpack.Decoder()
        self.statuses = {}
        self.resets = {}
        self.last_streams = []
        self.pings = []
        self.settled = False
        super().__init__(server, opening)

    def _note(self, kind, flags, stream, payload):
        if kind == HEADERS:
            # The server uses neither padding nor priorities, and each of its answers fits into a frame.
            fields = dict(self._decoder.decode(payload))
            if flags & END_STREAM:
                self.statuses[stream] = int(fields.get("grpc-status") or fields[":status"])
        elif kind == RST_STREAM:
            self.resets[stream] = ERRORS[int.from_bytes(payload, "big")]
        elif kind == GOAWAY:
            self.last_streams.append(int.from_bytes(payload[:4], "big"))
        elif kind == PING and not flags & ACK:
            self.pings.append(payload)
        elif kind == SETTINGS and not flags & ACK:
            self.settled = True
            self.send(frame(SETTINGS, ACK))

    def wait(self, condition, seconds=PATIENCE):
        """Read until `condition` holds, the time is up, or the connection ends. Return whether it holds."""
        end = time.monotonic() + seconds
        while not (held := condition()) and time.monotonic() < end and self.read(0.05):
            pass
        return bool(held or condition())
