# The compiled twin of the kernels: the names and signatures are those of the reference.

from framing.kernels.carry import carry_for as carry_for
from framing.kernels.decimals import split_content_length as split_content_length
from framing.kernels.decimals import split_decimal as split_decimal
from framing.kernels.lengths import split_field as split_field
from framing.kernels.lengths import split_fixed as split_fixed
from framing.kernels.lengths import split_prefixed as split_prefixed
from framing.kernels.lengths import split_records as split_records
from framing.kernels.lengths import split_varint as split_varint
