"""Layers: payload to payload, between the codec and the framer."""

from __future__ import annotations

from framing.layers.base import Layer
from framing.layers.checksum import CHECKSUMS, Checksum
from framing.layers.compressed import Compressed
from framing.layers.signed import Signed

__all__ = ["CHECKSUMS", "Checksum", "Compressed", "Layer", "Signed"]
