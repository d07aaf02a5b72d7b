"""Layers: payload to payload, between the codec and the framer."""

from __future__ import annotations

from framing.deferred import deferred

TYPE_CHECKING = False  # to type checkers it is true; the module that has it takes longer to load than all of this
if TYPE_CHECKING:
    from framing.layers.base import Layer
    from framing.layers.checksum import CHECKSUMS, Checksum
    from framing.layers.compressed import Compressed
    from framing.layers.signed import Signed
else:
    __getattr__, __dir__ = deferred(
        __name__,
        {
            "framing.layers.base": "Layer",
            "framing.layers.checksum": "CHECKSUMS Checksum",
            "framing.layers.compressed": "Compressed",
            "framing.layers.signed": "Signed",
        },
    )

__all__ = ["CHECKSUMS", "Checksum", "Compressed", "Layer", "Signed"]
