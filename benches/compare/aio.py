"""A gRPC server in Python's asyncio with default settings and a constant answer. It prints its address."""

import asyncio

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from hypersender.contact.v1 import contact_service_pb2 as contact
from hypersender.contact.v1 import contact_service_pb2_grpc as contact_grpc

# The size of the message of every answer, like in ../bare.
REPLY_BYTES = 217


class Constant(contact_grpc.ContactServiceServicer):
    def __init__(self):
        picture = contact.ProfilePicture(
            instance="5a4db0c5-7a3e-4c1d-9f26-1b0e5d2c8f47",
            chat_id="15560000000",
            state=contact.PROFILE_PICTURE_STATE_PRESENT,
            fetch_time=Timestamp(seconds=1_790_000_000, nanos=123_456_789),
            expire_time=Timestamp(seconds=1_790_852_768),
            fingerprint="15560000000_1_1_n.jpg",
        )
        info = contact.CacheInfo(
            status=contact.CACHE_STATUS_HIT,
            age=Duration(seconds=12, nanos=123_456_789),
            ttl=Duration(seconds=3_400, nanos=123_456_789),
        )
        self.answer = contact.GetProfilePictureResponse(profile_picture=picture, cache_info=info)
        while self.answer.ByteSize() < REPLY_BYTES:
            self.answer.profile_picture.url += "a"

    async def GetProfilePicture(self, request, context):
        return self.answer


async def main():
    server = grpc.aio.server()
    contact_grpc.add_ContactServiceServicer_to_server(Constant(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await server.wait_for_termination()


asyncio.run(main())
