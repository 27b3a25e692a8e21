"""Pools of windows, and alarms that are given once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tidegate.monitor.diagnose import ORDER, Diagnosis
from tidegate.monitor.drift import Window
from tidegate.monitor.pooling import QUIET, Open, Stream, joined


def window(number: int, rows: int = 3) -> Window:
    return Window(
        {"x": np.full(rows, float(number))}, np.full(rows, 0.5), np.zeros(rows), np.full(rows, number), None, {}
    )


def found(*kinds: str) -> Diagnosis:
    return Diagnosis(kinds[0] if kinds else "none", kinds, (), (), {}, "")


def test_the_last_4_and_the_last_16_windows_are_looked_at_together() -> None:
    sizes: list[int] = []

    def look(one: Window, alpha: float) -> Diagnosis:
        sizes.append(len(one) // 3)
        assert alpha == 0.001 / 3
        return found("data_drift") if len(one) // 3 == 16 else found()

    stream, alarms = Stream(), []
    for number in range(17):
        stream, looked = stream.look(window(number), look)
        alarms.append(looked.alarm)
    assert sizes[:5] == [1, 1, 1, 1, 4]
    assert sizes[-3:] == [1, 4, 16]
    assert alarms == [False] * 15 + [True, False]
    assert sorted(set(joined(stream.last).features["x"])) == list(range(1, 17))


@given(st.lists(st.sets(st.sampled_from(ORDER)), max_size=30))
def test_an_alarm_is_given_when_a_kind_comes_back_after_quiet_windows(told: list[set[str]]) -> None:
    state = Open()
    for at, fired in enumerate(told):
        state, alarm = state.told(fired)
        before = [set().union(*told[max(0, at - QUIET) : at])] if at else [set()]
        assert alarm == bool(fired - before[0])
