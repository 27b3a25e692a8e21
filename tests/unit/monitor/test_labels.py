"""What `POST /labels` takes, refuses and remembers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.errors import PlatformError, UserError
from tidegate.monitor.labels import KEEP, MOST_BYTES, BodyTooLargeError, LabelIntake, decode
from tidegate.observations import Label, SegmentReader

NOON = "2013-07-01T12:00:00Z"


def one(request: str = "a", value: float | None = 1.0, time: object = NOON, **rest: Any) -> dict[str, Any]:
    outcome = "cancelled" if value is None else "observed"
    return {"request_id": request, "value": value, "outcome": outcome, "time": time, **rest}


def body(*labels: dict[str, Any]) -> bytes:
    return json.dumps({"labels": list(labels)}).encode()


def intake(folder: Path) -> LabelIntake:
    return LabelIntake(folder, known=lambda request: request != "ghost/0", wall=lambda: 7.0)


def test_each_label_is_told_what_it_is(tmp_path: Path) -> None:
    labels = intake(tmp_path)
    told = labels.take(body(one(), one(), one("a/0"), one("a", 0.0), one("ghost"), one("b", None)))
    assert told == {"accepted": 2, "duplicate": 2, "corrected": 1, "unknown": 1}
    labels.close()
    stored = [record for record in SegmentReader(tmp_path).read() if isinstance(record, Label)]
    assert [(label.request_id, label.value, label.outcome) for label in stored] == [
        ("a/0", 1.0, "observed"),
        ("a/0", 0.0, "observed"),
        ("ghost/0", 1.0, "observed"),
        ("b/0", None, "cancelled"),
    ]
    assert {(label.time, label.wall) for label in stored} == {(1372680000.0, 7.0)}


def test_a_label_sent_again_after_its_correction_is_still_a_duplicate(tmp_path: Path) -> None:
    labels = intake(tmp_path)
    labels.take(body(one("a", 1.0, 10.0), one("a", 0.0, 20.0)))
    assert labels.take(body(one("a", 1.0, 10.0)))["duplicate"] == 1
    assert labels.take(body(one("a", 1.0, 30.0)))["corrected"] == 1
    labels.close()


def test_a_second_start_remembers_the_first(tmp_path: Path) -> None:
    first = intake(tmp_path)
    first.take(body(one()))
    first.close()
    second = intake(tmp_path)
    assert second.take(body(one(), one("a", 0.0))) == {"accepted": 0, "duplicate": 1, "corrected": 1, "unknown": 0}
    second.close()


def test_old_labels_are_forgotten(tmp_path: Path) -> None:
    labels = intake(tmp_path)
    labels.take(body(one("a", 1.0, 10.0), one("b", 1.0, 2 * KEEP)))
    labels.mark(2 * KEEP)
    assert labels.take(body(one("b", 1.0, 2 * KEEP), one("a", 1.0, 10.0))) == {
        "accepted": 1,
        "duplicate": 1,
        "corrected": 0,
        "unknown": 0,
    }
    labels.close()


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"labels": [one(value=2.0)]}, "labels[0].value: got 2.0, takes a number from 0 to 1"),
        ({"labels": [one(), one(value=None, outcome="observed")]}, "labels[1].value: got None, takes a number from 0"),
        ({"labels": [one(outcome="cancelled")]}, "labels[0].value: got 1.0, takes null, where"),
        ({"labels": [one(outcome="lost")]}, "labels[0].outcome"),
        ({"labels": [one(time="noon")]}, "labels[0].time: got 'noon', takes ISO 8601"),
        ({"labels": [one(time="2013-07-01T12:00:00")]}, "labels[0].time: got '2013-07-01T12:00:00', takes ISO 8601"),
        ({"labels": [one(time=1e300)]}, "labels[0].time: got 1e+300"),
        ({"labels": [one(time=None)]}, "labels[0].time: got 'null', takes "),
        ({"labels": [one("")]}, "labels[0].request_id: got '', takes an id"),
        ({"labels": [one(request="x" * 300)]}, "labels[0].request_id"),
        ({"labels": [one(metric="fuel")]}, "labels[0].metric: got 'fuel'"),
        ({"labels": [{"request_id": "a"}]}, "labels[0].outcome: got None, takes a value; the field is required"),
        ({"labels": {"a": 1}}, "labels: got 'object', takes array"),
        ({}, "labels: got None, takes a value"),
        ([], "labels: got 'array', takes object"),
        ({"labels": [one(value="1")]}, "labels[0].value: got 'str'"),
    ],
)
def test_a_refusal_names_the_field_and_stores_nothing(tmp_path: Path, sent: object, message: str) -> None:
    labels = intake(tmp_path)
    with pytest.raises(UserError) as caught:
        labels.take(json.dumps(sent).encode())
    assert str(caught.value).startswith(message)
    labels.close()
    assert SegmentReader(tmp_path).read() == []


def test_a_body_over_the_limit_is_refused_as_too_large(tmp_path: Path) -> None:
    labels = intake(tmp_path)
    with pytest.raises(BodyTooLargeError):
        labels.take(b" " * (MOST_BYTES + 1))
    with pytest.raises(BodyTooLargeError, match="10001 labels"):
        labels.take(json.dumps({"labels": [one("a", 1.0, 0)] * 10_001}, separators=(",", ":")).encode())
    labels.close()


def test_a_metric_of_the_model_file_has_its_own_range() -> None:
    bounds = {None: (0.0, 1.0), "fuel": (0.0, 90.0)}
    assert decode(body(one(value=80.0, metric="fuel")), bounds, 0.0)[0].metric == "fuel"
    with pytest.raises(UserError, match="from 0 to 90"):
        decode(body(one(value=91.0, metric="fuel")), bounds, 0.0)


def test_labels_that_the_disk_does_not_take_are_not_acknowledged(tmp_path: Path) -> None:
    labels = intake(tmp_path)
    write = labels._writer._write

    def full(lines: list[bytes], size: int) -> None:
        raise OSError(28, "No space left on device")

    labels._writer._write = full  # type: ignore[method-assign]
    with pytest.raises(PlatformError, match="none of this request"):
        labels.take(body(one()))
    labels._writer._write = write  # type: ignore[method-assign]
    assert labels.take(body(one()))["accepted"] == 1
    labels.close()


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["labels", "request_id", "time", "value", "outcome", "metric"]), inner, max_size=6
                )
            ),
            max_leaves=12,
        ).map(lambda document: json.dumps(document).encode()),
    )
)
def test_whatever_is_sent_it_is_labels_or_one_clear_line(sent: bytes) -> None:
    line = ""
    try:
        decode(sent, {None: (0.0, 1.0)}, 0.0)
    except UserError as error:
        line = str(error)
    assert "\n" not in line
