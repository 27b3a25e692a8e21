"""Keys and values as Feast writes them: held against Feast's own functions."""

from __future__ import annotations

import math
import struct
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.features.feast_repo import quick_import
from tidegate.features.wire import entity_key, heartbeat_times, known_of, value_of

with quick_import():
    from feast.infra.key_encoding_utils import serialize_entity_key
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

INT32, INT64 = st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
KINDS = {str: "string_val", bytes: "bytes_val", int: "int64_val"}
SCALARS = {
    "bytes_val": st.binary(max_size=300),
    "string_val": st.text(max_size=100),
    "int32_val": INT32,
    "int64_val": INT64,
    "double_val": st.floats(),
    "float_val": st.floats(width=32),
    "bool_val": st.booleans(),
    "unix_timestamp_val": INT64,
}


@given(st.dictionaries(st.text(max_size=12), st.text(max_size=20) | st.binary(max_size=20) | INT64, max_size=4))
def test_an_entity_key_is_what_feast_writes(keys: dict) -> None:
    values = [Value(**{KINDS[type(value)]: value}) for value in keys.values()]
    expected = serialize_entity_key(EntityKey(join_keys=list(keys), entity_values=values), 3)
    assert entity_key(tuple(keys), tuple(keys.values())) == expected


@given(st.one_of(*(values.map(lambda value, kind=kind: (kind, value)) for kind, values in SCALARS.items())))
@settings(max_examples=500)
def test_a_scalar_is_what_feast_wrote(scalar: tuple) -> None:
    kind, value = scalar
    found = value_of(Value(**{kind: value}).SerializeToString())
    assert type(found) is type(value)
    assert found == value or (math.isnan(found) and math.isnan(value))


def test_what_holds_nothing_is_none() -> None:
    assert value_of(b"") is None
    assert value_of(Value(null_val=0).SerializeToString()) is None


def test_a_list_is_no_scalar() -> None:
    blob = Value()
    blob.float_list_val.val.extend([1.0, 2.0])
    with pytest.raises(ValueError, match="no scalar"):
        value_of(blob.SerializeToString())


@given(st.binary(max_size=40))
@settings(max_examples=1000)
def test_damaged_bytes_are_a_value_or_a_value_error(blob: bytes) -> None:
    try:
        found = value_of(blob)
    except (ValueError, struct.error):
        return
    assert found is None or isinstance(found, (float, int, str, bytes))


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)))
def test_a_heartbeat_is_exact_to_the_microsecond_in_whole_seconds(naive: datetime) -> None:
    known = naive.replace(tzinfo=UTC)
    event, created = heartbeat_times(known)
    told = known_of(math.floor(event.timestamp()), int(created.timestamp()))
    assert round(told * 1e6) == (known - datetime(1970, 1, 1, tzinfo=UTC)) // (datetime.resolution)
