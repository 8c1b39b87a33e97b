"""Fill a chat list: paint at once what the server has, then ask for the rest.

    python examples/chat_list.py --server 127.0.0.1:50051 15551230001 15551230004 15551230006

A row goes to standard output as soon as it is known; the exit code is 1 when a contact has an error, and 2
when rows are missing.
"""

import argparse
import os
import sys
from collections.abc import Iterator

from hypersender.contact import ContactClient, ContactError, Outcome, Result, errors

# The number of contacts that one batch may have.
BATCH_MAX = 100


def main() -> int:
    parser = argparse.ArgumentParser(description="Fill a chat list with the profile pictures of contacts.")
    parser.add_argument("--server", default="127.0.0.1:50051", help="server to call, host:port (default: %(default)s)")
    parser.add_argument("--instance", default="", help="instance to ask, a UUID (default: the server's)")
    parser.add_argument(
        "--timeout", type=float, default=30, help="seconds that each call may take (default: %(default)s)"
    )
    parser.add_argument("chat_ids", nargs="+", metavar="CHAT_ID")
    flags = parser.parse_args()

    failed = 0
    try:
        with ContactClient(flags.server, instance=flags.instance) as client:
            for result in fill(client, flags.chat_ids, flags.timeout):
                print(f"{result.chat_id}: {row(result)}", flush=True)
                failed += result.outcome is Outcome.FAILED
    except (ContactError, ValueError) as error:
        print(error, file=sys.stderr)
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


def fill(client: ContactClient, chat_ids: list[str], timeout: float) -> Iterator[Result]:
    """Yield one result for each contact: first those that are stored, which takes milliseconds."""
    missing = []
    for result in batches(client, chat_ids, timeout, only_if_cached=True):
        if isinstance(result.error, errors.NotCached):
            missing.append(result.chat_id)
        else:
            yield result
    yield from batches(client, missing, timeout, only_if_cached=False)


def batches(client: ContactClient, chat_ids: list[str], timeout: float, only_if_cached: bool) -> Iterator[Result]:
    for start in range(0, len(chat_ids), BATCH_MAX):
        ids = chat_ids[start : start + BATCH_MAX]
        # The call succeeds even when contacts have errors: look at each result.
        yield from client.batch_get_profile_pictures(ids, timeout=timeout, only_if_cached=only_if_cached)


def row(result: Result) -> str:
    """Describe a result. The link of a picture would become the `src` of an image; never store or log it."""
    if result.error:
        return str(result.error)
    found = f"picture {result.picture.fingerprint}" if result.picture else "no picture"
    return f"{found} (stale)" if result.stale else found


if __name__ == "__main__":
    sys.exit(main())
