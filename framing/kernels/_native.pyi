# The compiled twin of the kernels: the names and signatures are those of the reference.

from framing.kernels.audit import arrives as arrives
from framing.kernels.audit import cbor_sound as cbor_sound
from framing.kernels.audit import is_plain as is_plain
from framing.kernels.audit import json_sound as json_sound
from framing.kernels.audit import json_within as json_within
from framing.kernels.audit import msgpack_sound as msgpack_sound
from framing.kernels.audit import msgpack_within as msgpack_within
from framing.kernels.carry import carry_for as carry_for
from framing.kernels.checksums import crc16_kermit as crc16_kermit
from framing.kernels.checksums import crc16_modbus as crc16_modbus
from framing.kernels.checksums import crc16_x25 as crc16_x25
from framing.kernels.checksums import crc32c as crc32c
from framing.kernels.decimals import split_content_length as split_content_length
from framing.kernels.decimals import split_decimal as split_decimal
from framing.kernels.delimiters import join_delimited as join_delimited
from framing.kernels.delimiters import split_delimited as split_delimited
from framing.kernels.delimiters import split_marked as split_marked
from framing.kernels.lengths import join_prefixed as join_prefixed
from framing.kernels.lengths import join_varint as join_varint
from framing.kernels.lengths import split_field as split_field
from framing.kernels.lengths import split_fixed as split_fixed
from framing.kernels.lengths import split_prefixed as split_prefixed
from framing.kernels.lengths import split_records as split_records
from framing.kernels.lengths import split_varint as split_varint
from framing.kernels.outbox import Outbox as Outbox
from framing.kernels.stuffing import fcs as fcs
from framing.kernels.stuffing import join_cobs as join_cobs
from framing.kernels.stuffing import join_hdlc as join_hdlc
from framing.kernels.stuffing import join_slip as join_slip
from framing.kernels.stuffing import split_cobs as split_cobs
from framing.kernels.stuffing import split_hdlc as split_hdlc
from framing.kernels.stuffing import split_slip as split_slip
from framing.kernels.stuffing import stuff_cobs as stuff_cobs
from framing.kernels.stuffing import stuff_hdlc as stuff_hdlc
from framing.kernels.stuffing import stuff_slip as stuff_slip

SOURCES: int
"""A checksum of the C files that this was compiled from; 0 where whoever compiled it gave none."""
