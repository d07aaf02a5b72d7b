"""Message framing: whole messages over a byte stream that cuts and glues them.

A `Wire` is what two peers agree on: a framer, layers, a codec. Its decoder takes chunks and gives messages; its
``encode`` gives bytes. `framing.drivers` moves them over sockets; `framing.presets` has real protocols' framers;
`framing.testing` proves your own. Importing this loads neither construct nor msgspec nor asyncio.
"""

from __future__ import annotations

from framing.deferred import deferred

TYPE_CHECKING = False  # to type checkers it is true; the module that has it takes longer to load than all of this
if TYPE_CHECKING:
    from framing.channel import Channel, Heartbeat
    from framing.codecs import CBOR, JSON, Codec, MessagePack, Raw, Struct, Text
    from framing.errors import (
        ConnectionClosed,
        ConnectionFailed,
        ConnectionRefused,
        ConnectionReset,
        CorruptFrame,
        DecodeError,
        EncodeError,
        FrameTooLarge,
        FramingError,
        SpecError,
        Timeout,
        TruncatedFrame,
        Violation,
    )
    from framing.framers import (
        COBS,
        HDLC,
        SLIP,
        ContentLength,
        Decoder,
        Delimited,
        FixedSize,
        Framer,
        LengthField,
        LengthPrefixed,
        Lines,
        Netstring,
        OctetCounted,
        RecordMarked,
        StructHeader,
        VarintPrefixed,
    )
    from framing.kernels import compiled
    from framing.layers import Checksum, Compressed, Layer, Signed
    from framing.wire import Wire
else:
    __getattr__, __dir__ = deferred(
        __name__,
        {
            "framing.channel": "Channel Heartbeat",
            "framing.codecs": "CBOR JSON Codec MessagePack Raw Struct Text",
            "framing.errors": (
                "ConnectionClosed ConnectionFailed ConnectionRefused ConnectionReset "
                "CorruptFrame DecodeError EncodeError FrameTooLarge FramingError SpecError "
                "Timeout TruncatedFrame Violation"
            ),
            "framing.framers": (
                "COBS HDLC SLIP ContentLength Decoder Delimited FixedSize Framer LengthField "
                "LengthPrefixed Lines Netstring OctetCounted RecordMarked StructHeader "
                "VarintPrefixed"
            ),
            "framing.kernels": "compiled",
            "framing.layers": "Checksum Compressed Layer Signed",
            "framing.wire": "Wire",
        },
        modules="channel codecs errors framers layers presets wire",
    )

__all__ = [
    "CBOR",
    "COBS",
    "HDLC",
    "JSON",
    "SLIP",
    "Channel",
    "Checksum",
    "Codec",
    "Compressed",
    "ConnectionClosed",
    "ConnectionFailed",
    "ConnectionRefused",
    "ConnectionReset",
    "ContentLength",
    "CorruptFrame",
    "DecodeError",
    "Decoder",
    "Delimited",
    "EncodeError",
    "FixedSize",
    "FrameTooLarge",
    "Framer",
    "FramingError",
    "Heartbeat",
    "Layer",
    "LengthField",
    "LengthPrefixed",
    "Lines",
    "MessagePack",
    "Netstring",
    "OctetCounted",
    "Raw",
    "RecordMarked",
    "Signed",
    "SpecError",
    "Struct",
    "StructHeader",
    "Text",
    "Timeout",
    "TruncatedFrame",
    "VarintPrefixed",
    "Violation",
    "Wire",
    "compiled",
]

__version__ = "0.1.0"
