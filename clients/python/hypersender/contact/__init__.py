"""Read WhatsApp contacts from a hypersender-grpc server.

`ContactClient` is for threads, and `AsyncContactClient` for asyncio. The errors are in
`hypersender.contact.errors`, and the generated code is in `hypersender.contact.v1`.
"""

from hypersender.contact import errors
from hypersender.contact._call import BatchOptions, CallOptions, StreamOptions
from hypersender.contact._channel import VERSION as __version__
from hypersender.contact._error import ContactError
from hypersender.contact.aio import AsyncContactClient
from hypersender.contact.client import ContactClient
from hypersender.contact.picture import Outcome, Picture, Progress, Result

__all__ = [
    "AsyncContactClient",
    "BatchOptions",
    "CallOptions",
    "ContactClient",
    "ContactError",
    "Outcome",
    "Picture",
    "Progress",
    "Result",
    "StreamOptions",
    "__version__",
    "errors",
]
