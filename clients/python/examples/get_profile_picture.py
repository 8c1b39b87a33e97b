"""Get links to the profile pictures of contacts from a hypersender-grpc server.

    python examples/get_profile_picture.py --address 127.0.0.1:50051 15551230001 15551230004

Answers go to standard output, failures to standard error; the exit code is 1 when a call failed.
"""

import argparse
import sys

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1.contact_service_pb2_grpc import ContactServiceStub


def main() -> int:
    parser = argparse.ArgumentParser(description="Ask where the profile pictures of contacts are.")
    parser.add_argument("--address", default="127.0.0.1:50051", help="server to call, host:port (default: %(default)s)")
    parser.add_argument("--instance", default="", help="instance to ask, a UUID (default: the server's)")
    parser.add_argument("--timeout", type=float, default=10, help="seconds that each call may take (default: %(default)s)")
    parser.add_argument("chat_ids", nargs="+", metavar="CHAT_ID")
    arguments = parser.parse_args()

    exit_code = 0
    # Without TLS: for a server on this machine, or behind a proxy that adds it. One channel is shared by all
    # calls.
    with grpc.insecure_channel(arguments.address) as channel:
        client = ContactServiceStub(channel)
        for chat_id in arguments.chat_ids:
            request = contact.GetProfilePictureRequest(instance=arguments.instance, chat_id=chat_id)
            try:
                # The deadline travels with the call, and the server obeys it.
                response = client.GetProfilePicture(request, timeout=arguments.timeout)
            except grpc.RpcError as error:
                print(f"{chat_id}: {explain(error)}", file=sys.stderr)
                exit_code = 1
            else:
                print(f"{chat_id}: {describe(response.profile_picture)}")
    return exit_code


def describe(picture: contact.ProfilePicture) -> str:
    match picture.state:
        case contact.PROFILE_PICTURE_STATE_PRESENT:
            until = f", works until {picture.expire_time.ToJsonString()}" if picture.HasField("expire_time") else ""
            return f"picture {picture.url}{until}"
        case contact.PROFILE_PICTURE_STATE_NOT_AVAILABLE:
            return "no picture"
        case _:
            return "an answer that this client is too old to read"


def explain(error: grpc.RpcError) -> str:
    """Return the parts of an error that a program can act on: the code, the reason and the wait.

    A failure that never reached the server, such as a refused connection, has neither reason nor wait.
    """
    reason = wait = ""
    status = rpc_status.from_call(error)
    for detail in status.details if status else ():
        if detail.Is(error_details_pb2.ErrorInfo.DESCRIPTOR):
            info = error_details_pb2.ErrorInfo.FromString(detail.value)
            reason = f" {info.reason}"
        elif detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR):
            retry = error_details_pb2.RetryInfo.FromString(detail.value)
            wait = f", try again in {retry.retry_delay.ToTimedelta().total_seconds():g}s"
    return f"{error.code().name}{reason}{wait}: {error.details()}"


if __name__ == "__main__":
    sys.exit(main())
