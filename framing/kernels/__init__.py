"""The stateless inner loops, one function a framer family; `framing.kernels.contract` says what they take and give.

These are the plain Python reference. A faster twin has the same names and signatures, and the framers take their
kernels from here alone, so that which of the two runs is decided in this file.
"""

from __future__ import annotations

from framing.kernels.decimals import split_content_length, split_decimal
from framing.kernels.delimiters import split_delimited, split_marked
from framing.kernels.found import split_found
from framing.kernels.lengths import (
    read_unsigned,
    read_varint,
    split_field,
    split_fixed,
    split_prefixed,
    split_records,
    split_varint,
    varint_size,
    write_varint,
)
from framing.kernels.stuffing import fcs, split_cobs, split_hdlc, split_slip, stuff_cobs, stuff_hdlc, stuff_slip

__all__ = [
    "compiled",
    "fcs",
    "read_unsigned",
    "read_varint",
    "split_cobs",
    "split_content_length",
    "split_decimal",
    "split_delimited",
    "split_field",
    "split_fixed",
    "split_found",
    "split_hdlc",
    "split_marked",
    "split_prefixed",
    "split_records",
    "split_slip",
    "split_varint",
    "stuff_cobs",
    "stuff_hdlc",
    "stuff_slip",
    "varint_size",
    "write_varint",
]

compiled = False
"""Whether the compiled twin of the kernels runs. There is none yet: the reference does."""
