"""Compressed: each payload on its own, as zlib, gzip or Zstandard; the output is bounded while it is inflated.

A payload of a kilobyte can stand for a gigabyte. So inflating stops one byte above the limit, whatever the compressed
stream announces, and a payload must be exactly one compressed stream: whole, and with nothing behind it.
"""

from __future__ import annotations

import io
import sys
import zlib
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Literal

from framing.errors import HEAD_BYTES, DecodeError
from framing.framers.base import check_option
from framing.layers.base import Layer

__all__ = ["Compressed"]

_WBITS = {"zlib": 15, "gzip": 31}
_LEVELS = {"zlib": (0, 9), "gzip": (0, 9), "zstd": (1, 22)}

_ZSTD_LEVEL = 3
# 8 MiB, which RFC 8878 (section 3.1.1.1.2) asks every decoder to grant. It bounds what a header can make us allocate,
# so the encoder stays within it too.
_ZSTD_WINDOW_LOG = 23
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_READ = 1 << 16


@dataclass(frozen=True, slots=True)
class Compressed(Layer):
    """The payload compressed by ``algorithm``: ``"zlib"`` (RFC 1950), ``"gzip"`` (RFC 1952), ``"zstd"`` (RFC 8878).

    ``level`` is 0 to 9 for zlib and gzip, 1 to 22 for zstd; None is the algorithm's own default. The peer need not use
    the same level. Zstandard is in the standard library from Python 3.14 on; before, install ``framing[zstd]``. Windows
    above 8 MiB are refused.

    `decode` raises `DecodeError` for a payload that inflates to more than ``max_size`` bytes (it inflates one byte
    more, never all), for a stream that is damaged or cut short, and for bytes behind its end, be they a second gzip member.
    Compress before you sign, and never mix secrets with what an attacker chose: the size tells.

    Raises ValueError for an unknown algorithm or a level out of bounds; ImportError where zstd is not installed.
    """

    algorithm: Literal["zlib", "gzip", "zstd"]
    level: int | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        """Check the algorithm and its level."""
        if self.algorithm not in _LEVELS:
            raise ValueError(f"no compression is named {self.algorithm!r}; there are: {', '.join(_LEVELS)}")
        if self.level is not None:
            check_option("level", self.level, *_LEVELS[self.algorithm])

    def encode(self, payload: bytes) -> bytes:
        """The payload, compressed."""
        if self.algorithm == "zstd":
            return _deflate_zstd(payload, _ZSTD_LEVEL if self.level is None else self.level)
        return zlib.compress(payload, -1 if self.level is None else self.level, _WBITS[self.algorithm])

    def decode(self, payload: bytes, max_size: int) -> bytes:
        """The payload, inflated: ``max_size`` bytes at the most; raises `DecodeError`."""
        if self.algorithm == "zstd":
            return _inflate_zstd(payload, max_size)
        stream = zlib.decompressobj(_WBITS[self.algorithm])
        try:
            inflated = stream.decompress(payload, max_size + 1)
        except zlib.error as error:
            raise DecodeError(f"not a sound {self.algorithm} stream: {error}", head=payload[:HEAD_BYTES]) from error
        if len(inflated) > max_size:
            raise _too_large(payload, max_size)
        # There was room for one byte more than came, so the input was used up: without its end it is not whole.
        if not stream.eof:
            raise _cut_short(self.algorithm, payload)
        if stream.unused_data:
            raise _trailing(self.algorithm, payload, len(stream.unused_data))
        return inflated


def _too_large(payload: bytes, max_size: int) -> DecodeError:
    return DecodeError(
        f"a payload of {len(payload)} bytes inflates to more than max_frame={max_size}; "
        "refuse the peer, or raise max_frame if such payloads are right",
        expected=max_size,
        got=max_size + 1,
        head=payload[:HEAD_BYTES],
    )


def _cut_short(algorithm: str, payload: bytes) -> DecodeError:
    return DecodeError(
        f"the {algorithm} stream does not end within its payload of {len(payload)} bytes",
        got=len(payload),
        head=payload[:HEAD_BYTES],
    )


def _trailing(algorithm: str, payload: bytes, extra: int) -> DecodeError:
    return DecodeError(
        f"{extra} bytes follow the end of the {algorithm} stream; a payload is one compressed stream and nothing else",
        expected=len(payload) - extra,
        got=len(payload),
        head=payload[:HEAD_BYTES],
    )


def _zstandard() -> ModuleType:
    """The module that speaks Zstandard below Python 3.14, loaded when it is first needed."""
    try:
        import zstandard  # noqa: PLC0415 an optional dependency, and slow to load
    except ImportError as error:
        raise ImportError("Compressed('zstd') needs a Zstandard library: pip install 'framing[zstd]'") from error
    return zstandard


def _deflate_zstd(payload: bytes, level: int) -> bytes:
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 loaded when it is first needed

        parameter = zstd.CompressionParameter
        options = {parameter.compression_level: level, parameter.content_size_flag: 1}
        if level > 19 or len(payload) > 1 << _ZSTD_WINDOW_LOG:
            options[parameter.window_log] = _ZSTD_WINDOW_LOG
        compressor = zstd.ZstdCompressor(options=options)
        compressor.set_pledged_input_size(len(payload))
        return compressor.compress(payload, zstd.ZstdCompressor.FLUSH_FRAME)
    library: Any = _zstandard()
    parameters = library.ZstdCompressionParameters.from_level(level, source_size=len(payload))
    if parameters.window_log > _ZSTD_WINDOW_LOG:
        parameters = library.ZstdCompressionParameters.from_level(
            level, source_size=len(payload), window_log=_ZSTD_WINDOW_LOG
        )
    compressed: bytes = library.ZstdCompressor(compression_params=parameters).compress(payload)
    return compressed


def _inflate_zstd(payload: bytes, max_size: int) -> bytes:
    if not payload.startswith(_ZSTD_MAGIC):
        raise DecodeError("not a Zstandard frame: its magic number is missing", head=payload[:HEAD_BYTES])
    end = _zstd_end(payload)
    if end > len(payload):
        raise _cut_short("zstd", payload)
    if end < len(payload):
        raise _trailing("zstd", payload, len(payload) - end)
    if sys.version_info >= (3, 14):
        from compression import zstd  # noqa: PLC0415 loaded when it is first needed

        stream = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        try:
            inflated: bytes = stream.decompress(payload, max_size + 1)
        except zstd.ZstdError as error:
            raise DecodeError(f"not a sound zstd stream: {error}", head=payload[:HEAD_BYTES]) from error
    else:
        library: Any = _zstandard()
        stream = library.ZstdDecompressor(max_window_size=1 << _ZSTD_WINDOW_LOG)
        reader = stream.stream_reader(io.BytesIO(payload), read_across_frames=False)
        parts: list[bytes] = []
        room = max_size + 1
        try:
            # Read in parts: a single read would first allocate all that it may return.
            while room and (part := reader.read(min(room, _ZSTD_READ))):
                parts.append(part)
                room -= len(part)
        except library.ZstdError as error:
            raise DecodeError(f"not a sound zstd stream: {error}", head=payload[:HEAD_BYTES]) from error
        inflated = b"".join(parts)
    if len(inflated) > max_size:
        raise _too_large(payload, max_size)
    return inflated


def _zstd_end(payload: bytes) -> int:
    """Where the frame that ``payload`` begins with ends, by its block headers (RFC 8878, sections 3.1.1 and 3.1.1.2).

    The libraries differ in whether and how they tell; a number beyond the payload means that the frame is cut short.
    """
    size = len(payload)
    if size < 6:
        return size + 1
    descriptor = payload[4]
    single = descriptor >> 5 & 1
    content_size = (single, 2, 4, 8)[descriptor >> 6]
    at = 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + content_size
    last = 0
    while not last:
        if at + 3 > size:
            return size + 1
        header = int.from_bytes(payload[at : at + 3], "little")
        last = header & 1
        # A block of type 1 is one byte, to be repeated as often as its size says.
        at += 3 + (1 if header >> 1 & 3 == 1 else header >> 3)
    return at + (4 if descriptor & 4 else 0)
