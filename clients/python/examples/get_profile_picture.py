"""Get links to the profile pictures of contacts from a hypersender-grpc server.

    python examples/get_profile_picture.py --server 127.0.0.1:50051 15551230001 15551230004

Answers go to standard output, failures to standard error; the exit code is 1 when a call failed.
"""

import argparse
import sys

from hypersender.contact import ContactClient, ContactError


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask where the profile pictures of contacts are.")
    parser.add_argument("--server", default="127.0.0.1:50051", help="server to call, host:port (default: %(default)s)")
    parser.add_argument("--instance", default="", help="instance to ask, a UUID (default: the server's)")
    parser.add_argument(
        "--timeout", type=float, default=10, help="seconds that each call may take (default: %(default)s)"
    )
    parser.add_argument("chat_ids", nargs="+", metavar="CHAT_ID")
    arguments = parser.parse_args()

    exit_code = 0
    # One client is shared by all calls. It speaks TLS to every server but one on this machine.
    with ContactClient(arguments.server, instance=arguments.instance, timeout=arguments.timeout) as client:
        for chat_id in arguments.chat_ids:
            try:
                picture = client.get_profile_picture(chat_id)
            except (ContactError, ValueError) as error:
                print(f"{chat_id}: {error}", file=sys.stderr)
                exit_code = 1
            else:
                until = f", works until {picture.expire_time}" if picture and picture.expire_time else ""
                print(f"{chat_id}: picture {picture.url}{until}" if picture else f"{chat_id}: no picture")
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
