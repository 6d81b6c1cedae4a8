"""Options for every gRPC server and channel: BuildKit's limits instead of grpcio's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

MESSAGE_BYTES: Final = 16 << 20
METADATA_BYTES: Final = 16 << 20  # a trailer may hold a build file, a header many patterns
PIECE_BYTES: Final = 1 << 20  # of a stream of bytes; Go's session servers take at most 4 MiB

Options = Sequence[tuple[str, int | str]]

_BOTH: Final[tuple[tuple[str, int | str], ...]] = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
)

SERVER: Final[Options] = (*_BOTH, ("grpc.so_reuseport", 0))
CHANNEL: Final[Options] = (
    *_BOTH,
    ("grpc.enable_http_proxy", 0),
    ("grpc.default_authority", "localhost"),
)
TUNNEL_CHANNEL: Final[Options] = (
    # Its one connection cannot be dialled again, and belongs to one session.
    *CHANNEL,
    ("grpc.client_idle_timeout_ms", 2**31 - 1),
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.enable_retries", 0),
)
