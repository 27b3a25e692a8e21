from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_models import SCHEMA

from tidegate.errors import UserError
from tidegate.features.wire import entity_key
from tidegate.serve.by_key import Fields
from tidegate.serve.decoder import Decoder
from tidegate.serve.rows import matrix
from tidegate.train.model_file import FeatureSchema

SCHEMA_OF_TESTS = FeatureSchema.parse(json.dumps(SCHEMA))
DECODER = Decoder(SCHEMA_OF_TESTS, most_rows=3)


def test_rows_come_out_in_the_schemas_order_and_what_is_absent_is_null() -> None:
    request = DECODER.decode(b'{"rows":[{"dep hour":7,"distance":1},{"carrier":"ZZ"}],"at":12.5}')
    assert request.rows.lists() == [[1.0, None, 7.0], [None, "ZZ", None]]
    assert request.at == 12.5


def test_a_time_may_be_text_with_its_zone() -> None:
    assert DECODER.decode(b'{"rows":[{}],"at":"2013-07-01T02:00:00+02:00"}').at == 1372636800.0


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"rows":[{"distance":"x"}]}', "rows[0].distance: got 'str', takes float | null"),
        (b'{"rows":[{},{"dist":1}]}', "rows[1]: field: got 'dist', takes one of distance, carrier, dep hour"),
        (b'{"rows":[{"carrier":1}]}', "rows[0].carrier: got 'int', takes str | null"),
        (b'{"rows":[{"distance":true}]}', "rows[0].distance: got 'bool', takes float | null"),
        (b'{"rows":[{"distance":1e39}]}', "rows[0].distance: got 'a value out of range', takes float <="),
        (
            b'{"rows":[{"distance":1e999}]}',
            "rows[0].distance: got 'a number that is not finite', takes a finite float32",
        ),
        (b"{}", "rows: got None, takes a value; it is required"),
        (b'{"rows":[]}', "rows: got 'a value out of range', takes array of length >= 1"),
        (b'{"rows":[{},{},{},{}]}', "rows: got 'a value out of range', takes array of length <= 3"),
        (b'{"rows":{}}', "rows: got 'object', takes array"),
        (b'{"row":[{}]}', "body: field: got 'row', takes the fields of the contract"),
        (b'{"rows":[{}],"at":-1}', "at: got 'a value out of range', takes seconds since the epoch"),
        (b'{"rows":[{}],"at":"yesterday"}', "at: got"),
        (b'{"rows":[{}],"at":"2013-07-01T02:00:00"}', "at: got"),
        (b'{"rows":[{}],"at":"0001-01-01T00:00:00+05:00"}', "at: got '0001-01-01T00:00:00+05:00', takes seconds"),
        (b'{"rows":[{}],"at":"9999-01-01T00:00:00Z"}', "at: got '9999-01-01T00:00:00+00:00', takes seconds"),
        (b'{"rows":[{"distance":NaN}]}', "body: got 'JSON is malformed"),
        (b"\xff", "body: got"),
        (b"", "body: got"),
        (b"[]", "body: got 'array', takes object"),
    ],
)
def test_a_refusal_names_the_field_what_it_got_and_what_it_takes(body: bytes, line: str) -> None:
    with pytest.raises(UserError) as error:
        DECODER.decode(body)
    assert str(error.value).startswith(line)


ROWS = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "distance": st.none()
            | st.floats(width=32, allow_nan=False, allow_infinity=False)
            | st.integers(-1000, 1000),
            "carrier": st.none() | st.sampled_from(["AA", "UA", "", "ZZ"]) | st.text(max_size=5),
            "dep hour": st.none() | st.integers(0, 24),
        },
    ),
    min_size=1,
    max_size=3,
)


@given(ROWS)
@settings(max_examples=200, deadline=None)
def test_the_compiled_encoding_equals_the_schemas_own(rows: list[dict]) -> None:
    encoded = matrix([DECODER.decode(json.dumps({"rows": rows}).encode()).rows])
    np.testing.assert_array_equal(encoded, SCHEMA_OF_TESTS.encode(rows))
    assert encoded.dtype == np.float32


BY_KEY = Decoder(SCHEMA_OF_TESTS, fields=Fields(("stop", "carrier"), ("dep hour",)))


@given(st.integers(-(2**70), 2**70) | st.sampled_from([-(2**63), 2**63 - 1, 2**63]) | st.text() | st.none())
def test_a_key_that_is_taken_can_be_looked_up_and_another_is_refused_by_name(key: int | str | None) -> None:
    body = json.dumps({"keys": [{"stop": key, "carrier": "UA"}]}).encode()
    if isinstance(key, int) and not -(2**63) <= key < 2**63:
        with pytest.raises(UserError, match=r"^keys\[0\]\.stop: got"):
            BY_KEY.decode(body)
    else:
        (entry,) = BY_KEY.decode(body).keys or ()
        assert entry == {"stop": key, "carrier": "UA", "dep hour": None}
        assert key is None or entity_key(["stop"], [entry["stop"]])


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (b'{"keys":[{"stop":1,"carrier":"UA"}],"rows":[{}]}', "body: got 'both', takes rows"),
        (b"{}", "body: got 'neither', takes rows"),
        (b'{"keys":null,"rows":[{}]}', "keys: got 'null', takes array"),
        (b'{"keys":[{"carrier":"UA"}]}', "keys[0].stop: got None, takes a value; it is required"),
        (b'{"keys":[{"stop":1.5,"carrier":"UA"}]}', "keys[0].stop: got 'float', takes int | str | null"),
    ],
)
def test_a_request_by_key_is_refused_by_name(body: bytes, line: str) -> None:
    with pytest.raises(UserError) as error:
        BY_KEY.decode(body)
    assert str(error.value).startswith(line)
