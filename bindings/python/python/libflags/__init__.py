"""Feature flags read from shared memory: no network, no client threads, no copy per process.

>>> import libflags
>>> client = libflags.Client()                                        # doctest: +SKIP
>>> client.get_boolean_value("new-checkout", False, {"targetingKey": "user-1"})  # doctest: +SKIP
True
"""

from libflags._libflags import (
    Client,
    CorruptStore,
    Details,
    Error,
    Flag,
    InvalidDefinition,
    IoError,
    NothingPublished,
    Snapshot,
    Status,
    StoreNotFound,
    UnknownFormat,
    UntrustedStore,
    __version__,
)

__all__ = [
    "Client",
    "CorruptStore",
    "Details",
    "Error",
    "Flag",
    "InvalidDefinition",
    "IoError",
    "NothingPublished",
    "Snapshot",
    "Status",
    "StoreNotFound",
    "UnknownFormat",
    "UntrustedStore",
    "__version__",
]
