"""A DNS server on 127.0.0.1 that knows one name ($1), with the address 127.0.0.1, until it is ended."""

import socket
import sys

NO_ERROR, NAME_ERROR = 0x8580, 0x8583
TYPE_A = 1


def answer(query, known):
    """The response to a query: the address for type A, nothing for other types, an error for other names."""
    end = query.index(0, 12) + 1
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]])
        at += 1 + query[at]
    question = query[12 : end + 4]
    found = b".".join(labels).decode().lower() == known
    address = found and int.from_bytes(query[end : end + 2]) == TYPE_A
    flags = NO_ERROR if found else NAME_ERROR
    numbers = (flags, 1, int(address), 0, 0)
    record = b"\xc0\x0c" + b"\0\x01\0\x01" + b"\0\0\0\0" + b"\0\x04" + socket.inet_aton("127.0.0.1")
    return query[:2] + b"".join(n.to_bytes(2) for n in numbers) + question + (record if address else b"")


def main():
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("127.0.0.1", 53))
    print("ready", flush=True)
    while True:
        query, client = server.recvfrom(512)
        server.sendto(answer(query, sys.argv[1]), client)


main()
