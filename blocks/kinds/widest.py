"""Finds the narrowest Arrow type that holds every value of two types exactly."""

import pyarrow as pa
import pyarrow.types as is_

from prefect_batch.blocks.kinds.kind import plain_type

_UNITS = ("s", "ms", "us", "ns")
# The bits of a float's fraction, in which integers up to this width are exact.
_FRACTIONS = {16: 11, 32: 24, 64: 53}
_MOST_DIGITS = 76


def widest(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    """Return the type for a column that has values of both types, or None if no type holds all of them exactly.

    Timestamps and durations get the finer unit, in which their most distant values may have no room.
    """
    one, other = plain_type(one), plain_type(other)
    if one == other or is_.is_null(other):
        return one
    if is_.is_null(one):
        return other
    if is_.is_nested(one) or is_.is_nested(other):
        return _nested(one, other)
    return _numbers(one, other) or _times(one, other) or _texts(one, other)


def _numbers(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    both = (one, other)
    if all(map(is_.is_integer, both)):
        return _integers(one, other)
    if all(map(is_.is_floating, both)):
        return max(both, key=lambda arrow: arrow.bit_width)
    if any(map(is_.is_decimal, both)):
        return _decimals(one, other)
    if any(map(is_.is_integer, both)) and any(map(is_.is_floating, both)):
        whole, broken = both if is_.is_integer(one) else (other, one)
        bits = whole.bit_width - is_.is_signed_integer(whole)
        room = [width for width, fraction in _FRACTIONS.items() if fraction >= bits and width >= broken.bit_width]
        return getattr(pa, f"float{min(room)}")() if room else None
    return None


def _integers(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    wider = max((one, other), key=lambda arrow: arrow.bit_width)
    if is_.is_signed_integer(one) == is_.is_signed_integer(other):
        return wider
    unsigned = one if is_.is_unsigned_integer(one) else other
    bits = max(wider.bit_width, 2 * unsigned.bit_width)
    return getattr(pa, f"int{bits}")() if bits <= 64 else None


def _decimals(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if not all(is_.is_decimal(arrow) or is_.is_integer(arrow) for arrow in (one, other)):
        return None
    sizes = [(a.precision - a.scale, a.scale) if is_.is_decimal(a) else (_digits(a), 0) for a in (one, other)]
    whole, scale = (max(size[part] for size in sizes) for part in (0, 1))
    if whole + scale > _MOST_DIGITS:
        return None
    return pa.decimal128(whole + scale, scale) if whole + scale <= 38 else pa.decimal256(whole + scale, scale)


def _digits(arrow: pa.DataType) -> int:
    return len(str(2**arrow.bit_width))


def _times(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    both = (one, other)
    if all(map(is_.is_date, both)):
        return pa.date32()
    alike = next((kind for kind in (is_.is_time, is_.is_duration, is_.is_timestamp) if all(map(kind, both))), None)
    if alike is None or (alike is is_.is_timestamp and one.tz != other.tz):
        return None
    return max(both, key=lambda arrow: _UNITS.index(arrow.unit))


def _texts(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    both = (one, other)
    if all(is_.is_string(a) or is_.is_large_string(a) or is_.is_string_view(a) for a in both):
        return pa.large_string() if any(map(is_.is_large_string, both)) else pa.string()
    if all(
        is_.is_binary(a) or is_.is_large_binary(a) or is_.is_fixed_size_binary(a) or is_.is_binary_view(a) for a in both
    ):
        return pa.large_binary() if any(map(is_.is_large_binary, both)) else pa.binary()
    return None


def _nested(one: pa.DataType, other: pa.DataType) -> pa.DataType | None:
    if is_.is_struct(one) and is_.is_struct(other):
        fields = [{field.name: field for field in arrow} for arrow in (one, other)]
        if fields[0].keys() != fields[1].keys() or len(fields[0]) != one.num_fields:
            return None  # With the fields of both, a value would have one more.
        types = [widest(field.type, fields[1][name].type) for name, field in fields[0].items()]
        return None if None in types else pa.struct(list(zip(fields[0], types, strict=True)))
    if is_.is_map(one) and is_.is_map(other):
        keys, items = widest(one.key_type, other.key_type), widest(one.item_type, other.item_type)
        return None if keys is None or items is None else pa.map_(keys, items)
    if all(is_.is_list(a) or is_.is_large_list(a) or is_.is_fixed_size_list(a) for a in (one, other)):
        value = widest(one.value_type, other.value_type)
        return None if value is None else pa.list_(value)
    return None
