"""Splits by time with gaps, and the check that names a leak."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.errors import UserError
from tidegate.train.splits import check_no_leak, split

times = st.lists(st.floats(0, 1000), min_size=1, max_size=50).map(np.array)


@given(times, st.floats(0, 50), st.floats(1, 200))
def test_parts_are_apart_by_the_label_deadline(asked, deadline, window):
    parts = split(1000.0, deadline, window)
    gate, train, fit, validation = (p.mask(asked) for p in (parts.gate, parts.train, parts.fit, parts.validation))
    assert not (gate & train).any()
    assert not (fit & validation).any()
    assert ((fit | validation) <= train).all()
    for before, after in ((train, gate), (fit, validation)):
        if before.any() and after.any():
            assert asked[before].max() + deadline <= asked[after].min() + 1e-9
    assert (asked[gate] + deadline <= 1000 + 1e-9).all()


def frame(**columns):
    base = {"key": ["a", "b"], "event_timestamp": [10.0, 20.0], "label_timestamp": [15.0, 25.0]}
    return pl.DataFrame({**base, **columns})


def test_rows_that_were_known_pass():
    check_no_leak(frame(temp_timestamp=[10.0, None]), "key", 25.0)


@pytest.mark.parametrize(
    ("columns", "named"),
    [
        ({"label_timestamp": [15.0, 31.0]}, "training row b: label_timestamp"),
        ({"event_timestamp": [30.5, 20.0], "label_timestamp": [29.0, 25.0]}, "training row a: event_timestamp"),
        ({"temp_timestamp": [10.0, 20.5]}, "training row b: temp_timestamp"),
    ],
)
def test_a_planted_leak_is_named(columns, named):
    with pytest.raises(UserError, match=named):
        check_no_leak(frame(**columns), "key", 30.0)
