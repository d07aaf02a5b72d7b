"""Codecs: payload to message and back. None loads its library before it is used."""

from __future__ import annotations

from framing.codecs.base import Codec
from framing.codecs.cbor import CBOR
from framing.codecs.json import JSON
from framing.codecs.msgpack import MessagePack
from framing.codecs.raw import Raw
from framing.codecs.struct import Struct
from framing.codecs.text import Text

__all__ = ["CBOR", "JSON", "Codec", "MessagePack", "Raw", "Struct", "Text"]
