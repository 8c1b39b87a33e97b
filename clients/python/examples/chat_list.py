"""Fill a chat list: paint at once what the server has, then ask for the rest.

    python examples/chat_list.py --server 127.0.0.1:50051 15551230001 15551230004 15551230006

A row goes to standard output as soon as it is known; the exit code is 1 when a contact has an error, and 2
when rows are missing.
"""

import argparse
import os
import sys
from collections.abc import Iterator

import grpc

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub
from hypersender_grpc_client import pictures

# The number of contacts that one batch may have.
BATCH_MAX = 100


def main() -> int:
    parser = argparse.ArgumentParser(description="Fill a chat list with the profile pictures of contacts.")
    parser.add_argument("--server", default="127.0.0.1:50051", help="server to call, host:port (default: %(default)s)")
    parser.add_argument("--instance", default="", help="instance to ask, a UUID (default: the server's)")
    parser.add_argument("--timeout", type=float, default=30, help="seconds that each call may take (default: %(default)s)")
    parser.add_argument("chat_ids", nargs="+", metavar="CHAT_ID")
    flags = parser.parse_args()

    failed = 0
    # Without TLS: for a server on this machine, or behind a proxy that adds it.
    with grpc.insecure_channel(flags.server) as channel:
        stub = ContactServiceStub(channel)
        try:
            for result in fill(stub, flags.instance, flags.chat_ids, flags.timeout):
                print(f"{result.requested_chat_id}: {row(result)}", flush=True)
                failed += result.HasField("error")
        except grpc.RpcError as error:
            print(pictures.explain(error), file=sys.stderr)
            return 2
        except OSError as error:
            print(f"standard output: {error.strerror}", file=sys.stderr)
            # The row is still in the buffer, which Python would write once more when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 2
    return 1 if failed else 0


def fill(
    stub: ContactServiceStub, instance: str, chat_ids: list[str], timeout: float
) -> Iterator[contact.ProfilePictureResult]:
    """Yield one result for each contact: first those that are stored, which takes milliseconds."""
    missing = []
    for result in batches(stub, instance, chat_ids, timeout, contact.CacheControl(only_if_cached=True)):
        if result.HasField("error") and pictures.explain(result.error).reason == "NOT_CACHED":
            missing.append(result.requested_chat_id)
        else:
            yield result
    yield from batches(stub, instance, missing, timeout, None)


def batches(
    stub: ContactServiceStub,
    instance: str,
    chat_ids: list[str],
    timeout: float,
    cache_control: contact.CacheControl | None,
) -> Iterator[contact.ProfilePictureResult]:
    for start in range(0, len(chat_ids), BATCH_MAX):
        request = contact.BatchGetProfilePicturesRequest(
            instance=instance, chat_ids=chat_ids[start : start + BATCH_MAX], cache_control=cache_control
        )
        # The call is OK even when contacts have errors: look at each result.
        yield from stub.BatchGetProfilePictures(request, timeout=timeout).results


def row(result: contact.ProfilePictureResult) -> str:
    """Describe a result. The link of a picture would become the `src` of an image; never store or log it."""
    if result.HasField("error"):
        return str(pictures.explain(result.error))
    found = f"({contact.CacheStatus.Name(result.cache_info.status).removeprefix('CACHE_STATUS_')})"
    match result.profile_picture.state:
        case contact.PROFILE_PICTURE_STATE_PRESENT:
            return f"picture {result.profile_picture.fingerprint} {found}"
        case contact.PROFILE_PICTURE_STATE_NOT_AVAILABLE:
            return f"no picture {found}"
        case _:
            return "an answer that this client is too old to read"


if __name__ == "__main__":
    sys.exit(main())
