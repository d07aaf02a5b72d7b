"""Where payloads begin and end: one family a file, and the base that a framer of one's own is made from."""

from __future__ import annotations

from framing.deferred import deferred

TYPE_CHECKING = False  # to type checkers it is true; the module that has it takes longer to load than all of this
if TYPE_CHECKING:
    from framing.framers.base import DEFAULT_MAX_FRAME, Decoder, Framer
    from framing.framers.decimals import ContentLength, Netstring, OctetCounted
    from framing.framers.delimiters import Delimited, Lines
    from framing.framers.headers import StructHeader
    from framing.framers.lengths import FixedSize, LengthField, LengthPrefixed, RecordMarked, VarintPrefixed
    from framing.framers.stuffing import COBS, HDLC, SLIP
else:
    __getattr__, __dir__ = deferred(
        __name__,
        {
            "framing.framers.base": "DEFAULT_MAX_FRAME Decoder Framer",
            "framing.framers.decimals": "ContentLength Netstring OctetCounted",
            "framing.framers.delimiters": "Delimited Lines",
            "framing.framers.headers": "StructHeader",
            "framing.framers.lengths": ("FixedSize LengthField LengthPrefixed RecordMarked VarintPrefixed"),
            "framing.framers.stuffing": "COBS HDLC SLIP",
        },
    )

__all__ = [
    "COBS",
    "DEFAULT_MAX_FRAME",
    "HDLC",
    "SLIP",
    "ContentLength",
    "Decoder",
    "Delimited",
    "FixedSize",
    "Framer",
    "LengthField",
    "LengthPrefixed",
    "Lines",
    "Netstring",
    "OctetCounted",
    "RecordMarked",
    "StructHeader",
    "VarintPrefixed",
]
