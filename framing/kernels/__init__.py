"""The stateless inner loops, one function a framer family; `framing.kernels.contract` says what they take and give.

Each is there in plain Python, the reference, and some have a compiled twin of the same name and signature, in
`framing.kernels._native` (``native/``). The two give the same answers to everything; which of them runs is decided here
and nowhere else: the twin where it was built, unless the environment has ``FRAMING_PURE=1`` when this is imported. A twin
that was built from other sources and lacks a name does not run, and a `RuntimeWarning` says so.
"""

from __future__ import annotations

import os
import warnings
from importlib import import_module

from framing.kernels.found import split_found
from framing.kernels.lengths import read_unsigned, read_varint, varint_size, write_varint

__all__ = [
    "Outbox",
    "arrives",
    "carry_for",
    "cbor_sound",
    "compiled",
    "crc16_kermit",
    "crc16_modbus",
    "crc16_x25",
    "crc32c",
    "fcs",
    "is_plain",
    "join_cobs",
    "join_delimited",
    "join_hdlc",
    "join_prefixed",
    "join_slip",
    "join_varint",
    "json_sound",
    "json_within",
    "msgpack_sound",
    "msgpack_within",
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


def _is_built() -> bool:
    try:
        import_module("framing.kernels._native")
    except ImportError:
        return False
    return True


compiled: bool = os.environ.get("FRAMING_PURE", "0") in ("", "0") and _is_built()
"""Whether the compiled twin of the kernels runs."""

if compiled:
    try:
        from framing.kernels._native import (  # pyright: ignore[reportMissingModuleSource] -- it need not be built
            Outbox,
            arrives,
            carry_for,
            cbor_sound,
            crc16_kermit,
            crc16_modbus,
            crc16_x25,
            crc32c,
            fcs,
            is_plain,
            join_cobs,
            join_delimited,
            join_hdlc,
            join_prefixed,
            join_slip,
            join_varint,
            json_sound,
            json_within,
            msgpack_sound,
            msgpack_within,
            split_cobs,
            split_content_length,
            split_decimal,
            split_delimited,
            split_field,
            split_fixed,
            split_hdlc,
            split_marked,
            split_prefixed,
            split_records,
            split_slip,
            split_varint,
            stuff_cobs,
            stuff_hdlc,
            stuff_slip,
        )
    except ImportError as error:
        compiled = False
        warnings.warn(
            f"plain Python runs instead of the compiled twin, which was built from other sources ({error}); build it anew: "
            "pip install -e . in a checkout, else pip install --force-reinstall framing",
            RuntimeWarning,
            stacklevel=2,
        )

if not compiled:
    from framing.kernels.audit import (
        arrives,
        cbor_sound,
        is_plain,
        json_sound,
        json_within,
        msgpack_sound,
        msgpack_within,
    )
    from framing.kernels.carry import carry_for
    from framing.kernels.checksums import crc16_kermit, crc16_modbus, crc16_x25, crc32c
    from framing.kernels.decimals import split_content_length, split_decimal
    from framing.kernels.delimiters import join_delimited, split_delimited, split_marked
    from framing.kernels.lengths import (
        join_prefixed,
        join_varint,
        split_field,
        split_fixed,
        split_prefixed,
        split_records,
        split_varint,
    )
    from framing.kernels.outbox import Outbox
    from framing.kernels.stuffing import (
        fcs,
        join_cobs,
        join_hdlc,
        join_slip,
        split_cobs,
        split_hdlc,
        split_slip,
        stuff_cobs,
        stuff_hdlc,
        stuff_slip,
    )
