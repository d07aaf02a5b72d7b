"""Wire: all that two peers must agree on, as one value; and the spec string, its spelling for command lines and config.

A wire is a framer, layers and a codec. A message goes through the codec first, then through the layers from the last to
the first, then into a frame; received, the other way round. So the order of writing is the order on the wire, from the
outside in: ``Wire(LengthPrefixed(4), Checksum("crc32"), MessagePack())`` is a frame around a checksum around MessagePack,
and its spec string is ``u32+crc32+msgpack``.

A wire guarantees that a payload is within the framer's ``max_frame`` at each step and in both directions, so that what
one side may send the other may receive; and that whatever a layer or codec raises over a payload reaches the caller as
`DecodeError`, over a message as `EncodeError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar, cast, overload

from framing.codecs import Codec, Raw
from framing.errors import HEAD_BYTES, DecodeError, EncodeError
from framing.framers import Decoder, Framer
from framing.framers.base import PIECE_BYTES, Join
from framing.kernels.contract import Splitter
from framing.layers import Layer

__all__ = ["Wire"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Machine(Generic[T]):
    """What connections over one wire have in common: its functions, with the options bound."""

    split: Splitter
    opener: Callable[[bytes], T]
    open_many: Callable[[list[bytes], list[T]], None]
    join: Join | None
    """`Framer.joiner`: makes the frames of payloads; None where it must be seen of each whether it can be carried."""
    most: int
    """How many bytes a payload for ``join`` may have."""
    raw: bool
    """Whether a message is its own payload."""


class _Kept:
    """Room for what is made of a wire's fields when it is first needed; it is no field itself."""

    __slots__ = ("_machine",)

    _machine: Machine[Any]


@dataclass(frozen=True, slots=True, init=False)
class Wire(_Kept, Generic[T]):
    """A framer, any layers from the outside in, and a codec (`Raw` where none is given): immutable and shareable.

    ``layers=`` and ``codec=`` are there for ``dataclasses.replace``; written by position they read better.
    """

    framer: Framer
    layers: tuple[Layer, ...]
    codec: Codec[T]

    @overload
    def __init__(self: Wire[bytes], framer: Framer, /, *layers: Layer) -> None: ...
    @overload
    def __init__(self, framer: Framer, codec: Codec[T], /) -> None: ...
    @overload
    def __init__(self, framer: Framer, layer: Layer, codec: Codec[T], /) -> None: ...
    @overload
    def __init__(self, framer: Framer, layer: Layer, layer2: Layer, codec: Codec[T], /) -> None: ...
    @overload
    def __init__(self, framer: Framer, layer: Layer, layer2: Layer, layer3: Layer, codec: Codec[T], /) -> None: ...
    @overload
    def __init__(self, framer: Framer, *, layers: tuple[Layer, ...], codec: Codec[T]) -> None: ...
    def __init__(
        self,
        framer: Framer,
        *parts: Layer | Codec[Any],
        layers: tuple[Layer, ...] = (),
        codec: Codec[Any] | None = None,
    ) -> None:
        """Sort the parts by what they are; raises TypeError for what has no place."""
        if not isinstance(framer, Framer):  # pyright: ignore[reportUnnecessaryIsInstance] not all callers are typed
            raise TypeError(f"a wire begins with a framer, not {framer!r}")
        if parts and isinstance(parts[-1], Codec):
            codec = parts[-1]
            parts = parts[:-1]
        for part in (*parts, *layers):
            if not isinstance(part, Layer):
                raise TypeError(f"{part!r} is no layer: give layers, then a codec, once")
        object.__setattr__(self, "framer", framer)
        object.__setattr__(self, "layers", (*parts, *layers))
        object.__setattr__(self, "codec", Raw() if codec is None else codec)

    @staticmethod
    def parse(spec: str) -> Wire[Any]:
        """The wire that a spec string names: ``"u32+crc32+msgpack"``, ``"lines(max_frame=4K)+json"``, ``"mqtt"``.

        Raises `SpecError`, which names the part that is wrong and the nearest right word.
        """
        from framing.spec import parse  # noqa: PLC0415 it loads every framer, layer and codec

        framer, layers, codec = parse(spec)
        return Wire(framer, layers=layers, codec=codec)

    @property
    def spec(self) -> str:
        """The spec string of this wire; raises `SpecError` where an option is no word or number (a type, a key)."""
        from framing.spec import write  # noqa: PLC0415 it loads every framer, layer and codec

        return write(self.framer, self.layers, self.codec)

    def __str__(self) -> str:
        try:
            return self.spec
        except ValueError:
            return repr(self)

    def encode(self, message: T) -> bytes:
        """The frame of ``message``; raises `EncodeError`, and gives no part of a frame, where it cannot be carried."""
        machine = self.machine
        if machine.raw and machine.join is not None and type(message) is bytes:
            frame = machine.join([message])  # the message of a raw wire is its payload
            if frame is not None:
                return frame
        return self.framer.encode(self._payload(message))

    def pieces(self, message: T) -> tuple[bytes, ...]:
        """The frame of ``message``, to be written piece by piece, a large payload without being copied; raises as `encode`."""
        machine = self.machine
        if machine.raw and machine.join is not None and type(message) is bytes:
            payload = cast("bytes", message)  # the message of a raw wire is its payload
            frame = machine.join([payload]) if len(payload) < PIECE_BYTES else None
            if frame is not None:
                return (frame,)
        return self.framer.pieces(self._payload(message))

    def encode_many(self, messages: Iterable[T]) -> bytes:
        """The frames of all ``messages``, to be written at once; raises as `encode`, and then nothing is written."""
        return self.framer.encode_many(self._payloads(messages))

    def decoder(self) -> Decoder[T]:
        """A new decoder that yields messages, for one direction of one stream."""
        machine = self.machine
        if machine.raw:
            return cast("Decoder[T]", Decoder(self.framer, split=machine.split))
        return Decoder(self.framer, machine.opener, unwrap_many=machine.open_many, split=machine.split)

    @property
    def machine(self) -> Machine[T]:
        """What all connections share; made once."""
        try:
            return self._machine
        except AttributeError:
            join, most = self.framer.joiner() or (None, 0)
            raw = type(self.codec) is Raw and not self.layers
            machine = Machine(self.framer.splitter(), self.opener(), self.open_many, join, most, raw)
            object.__setattr__(self, "_machine", machine)
            return machine

    def opener(self) -> Callable[[bytes], T]:
        """The function that turns a payload into a message through the layers and the codec; it raises `DecodeError`."""
        return partial(_open, self.layers, self.codec.decode, self.framer.max_frame)

    def open_many(self, payloads: list[bytes], messages: list[T]) -> None:
        """Append the message of each payload to ``messages``; raises `DecodeError` at the first that is refused."""
        try:
            bodies = payloads
            for layer in self.layers:
                bodies = [layer.decode(body, self.framer.max_frame) for body in bodies]
            messages += self.codec.decode_many(bodies)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001 one of them is to blame: by itself it is found, and those before it are kept
            messages.extend(map(self.opener(), payloads))

    def payload(self, message: T) -> bytes:
        """What `encode` puts into the frame of ``message``: for transports that keep messages apart, as datagrams do."""
        payload = self._payload(message)
        if len(payload) > self.framer.max_frame:
            raise EncodeError(
                f"a payload of {len(payload)} bytes is above max_frame={self.framer.max_frame}; "
                "send less, or raise max_frame on both sides",
                expected=self.framer.max_frame,
                got=len(payload),
            )
        return payload

    def _payloads(self, messages: Iterable[T]) -> list[bytes]:
        given = messages if isinstance(messages, list) else list(messages)
        limit = self.framer.max_frame
        try:
            payloads = self.codec.encode_many(given)
            for layer in reversed(self.layers):
                if max(map(len, payloads), default=0) > limit:
                    break
                payloads = list(map(layer.encode, payloads))
            else:
                return payloads
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001,S110 one of them is to blame, and by itself says what is wrong with it
            pass
        return list(map(self._payload, given))

    def _payload(self, message: T) -> bytes:
        part: Layer | Codec[T] = self.codec
        try:
            payload = self.codec.encode(message)
            for part in reversed(self.layers):
                if len(payload) > self.framer.max_frame:
                    # A layer may make it smaller; but the peer, which opens it, holds every step against its limit.
                    raise EncodeError(  # noqa: TRY301 -- the handler below lets it pass
                        f"a payload of {len(payload)} bytes is above max_frame={self.framer.max_frame} "
                        f"before {part!r} has made anything of it; the peer would refuse it",
                        expected=self.framer.max_frame,
                        got=len(payload),
                    )
                payload = part.encode(payload)
        except (EncodeError, MemoryError):
            raise
        except Exception as error:
            raise EncodeError(f"{type(part).__name__} cannot encode {type(message).__name__}: {error!r}") from error
        return payload


def _open(layers: tuple[Layer, ...], decode: Callable[[bytes], T], max_frame: int, payload: bytes) -> T:
    """Open one payload; whatever goes wrong in a layer or codec is this payload's fault, and `DecodeError`."""
    body = payload
    try:
        for layer in layers:
            body = layer.decode(body, max_frame)
        return decode(body)
    except DecodeError as error:
        error.head = error.head or payload[:HEAD_BYTES]
        raise
    except MemoryError:
        raise
    except Exception as error:
        raise DecodeError(f"the payload cannot be decoded: {error!r}", head=payload[:HEAD_BYTES]) from error
