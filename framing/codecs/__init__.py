"""Codecs: payload to message and back. None loads its library before it is used."""

from __future__ import annotations

from framing.deferred import deferred

TYPE_CHECKING = False  # to type checkers it is true; the module that has it takes longer to load than all of this
if TYPE_CHECKING:
    from framing.codecs.base import Codec
    from framing.codecs.cbor import CBOR
    from framing.codecs.json import JSON
    from framing.codecs.msgpack import MessagePack
    from framing.codecs.raw import Raw
    from framing.codecs.struct import Struct
    from framing.codecs.text import Text
else:
    __getattr__, __dir__ = deferred(
        __name__,
        {
            "framing.codecs.base": "Codec",
            "framing.codecs.cbor": "CBOR",
            "framing.codecs.json": "JSON",
            "framing.codecs.msgpack": "MessagePack",
            "framing.codecs.raw": "Raw",
            "framing.codecs.struct": "Struct",
            "framing.codecs.text": "Text",
        },
    )

__all__ = ["CBOR", "JSON", "Codec", "MessagePack", "Raw", "Struct", "Text"]
