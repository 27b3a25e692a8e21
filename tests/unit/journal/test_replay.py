"""A real small journal reproduces itself; whatever is changed in it, replay fails and says where."""

from __future__ import annotations

import copy
import math
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tidegate.errors import TamperedJournal
from tidegate.journal.events import GENESIS, Draft, Event, seal
from tidegate.journal.replay import replay_events, replay_state
from tidegate.journal.store import verify

DECIDED = ("trigger.evaluated", "release.looked", "release.stage", "release.promoted", "release.aborted",
           "release.ended", "release.opened", "release.first", "serve.traffic", "register.candidate")  # fmt: skip


@pytest.fixture(scope="module")
def events(lived) -> list[Event]:
    return lived.journal.read("quick")


def forged(events: Sequence[Event], seq: int, change: Callable[[Any], object]) -> list[Event]:
    """The journal with one event's data changed, and hashed again consistently from there on."""
    found, before = [], GENESIS
    for event in events:
        data = copy.deepcopy(event.data)
        if event.seq == seq:
            change(data)
        found.append(seal(Draft(event.kind, event.time, data), event.model, event.seq, event.wall, before))
        before = found[-1].hash
    return found


def named(events: Sequence[Event], seq: int, change: Callable[[Any], object]) -> str:
    """What replay says of the forged journal, whose chain is whole."""
    wrong = forged(events, seq, change)
    verify(wrong)
    with pytest.raises(TamperedJournal) as fault:
        replay_events(wrong)
    return str(fault.value)


def test_a_real_journal_reproduces_itself(lived, events):
    report = replay_state(lived.folder)
    assert report.ok
    assert set(report.decisions) == set(DECIDED)
    assert report.events == len(events)
    assert report.to_text().startswith(f"reproduced: {sum(report.decisions.values())} decisions in {len(events)}")
    assert report.to_json()["fault"] == ""


def test_forging_nothing_changes_nothing(events):
    again = forged(events, 0, lambda data: None)
    assert again == events


def looked_at(data: Any) -> Any:
    """The sums from which a look decided."""
    return data["evidence"]["places"][data["judgement"]["place"]]


FORGERIES = {
    "verdict": ("release.aborted", lambda d: d["judgement"].update(verdict="promote"), "the judgement"),
    "reason": ("release.aborted", lambda d: d["judgement"].update(reason="no_evidence"), "the judgement"),
    "sentence": ("release.looked", lambda d: d["judgement"].update(sentence="fine"), "the judgement"),
    "margin": ("release.looked", lambda d: d["judgement"]["checks"]["loss"].update(margin=0.5), "the judgement"),
    "sum": ("release.stage", lambda d: looked_at(d)["states"]["errors"].update(S=-1.0), "the judgement"),
    "weights": ("release.stage", lambda d: looked_at(d)["states"]["errors"].update(W=9.0), "the judgement"),
    "count": ("release.stage", lambda d: looked_at(d)["counts"].update(requests=3, by_weight={}), "the"),
    "look's time": ("release.looked", lambda d: d.update(now=d["now"] + 1), "now is"),
    "state": ("release.stage", lambda d: d["release"].update(state="shadow"), "the release"),
    "release's margin": ("release.looked", lambda d: d["release"]["spec"]["judge"]["loss"].update(margin=1.0), "the"),
    "action": ("release.promoted", lambda d: d["actions"].clear(), "the actions"),
    "promoted digest": ("release.promoted", lambda d: d["actions"][0].update(digest="sha256:0"), "the actions"),
    "carried": ("release.promoted", lambda d: d["actions"][0].update(carried=0.01), "the actions"),
    "decision": ("trigger.evaluated", lambda d: d["decision"].update(decision="retrain"), "the decision"),
    "causes": ("trigger.evaluated", lambda d: d["decision"].update(causes=["drift"]), "the decision"),
    "trigger's count": ("trigger.evaluated", lambda d: d["state"].update(matured=1), "the trigger state"),
    "gate estimate": ("register.candidate", lambda d: d["gate"]["checks"]["log_loss"].update(estimate=-1.0), "gate"),
    "gate margin": ("register.candidate", lambda d: d["gate"]["policy"].update(margin=1e-9), "the gate"),
    "gate sum": ("register.candidate", lambda d: d["gate"]["measurements"]["days"]["sums"].__setitem__(0, 9.0), ""),
    "gate verdict": ("register.candidate", lambda d: d["gate"].update(verdict="refused"), "the gate"),
    "challenger": ("release.opened", lambda d: d["release"]["challengers"][0].update(digest="sha256:0"), "candidates"),
    "margin of a release": ("release.opened", lambda d: d["release"]["spec"]["judge"]["loss"].update(margin=9.0), ""),
    "first": ("release.first", lambda d: d.update(version="v7"), "candidates"),
    "split": ("serve.traffic", lambda d: d["split"][0].__setitem__(1, 0.5), "the traffic"),
    "mirror": ("serve.traffic", lambda d: d["mirrors"].append("v9"), "the traffic"),
    "a missing part": ("release.looked", lambda d: d.pop("evidence"), "its inputs do not fit"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_forged_decision_is_named_though_the_chain_is_whole(events, name):
    kind, change, what = FORGERIES[name]
    victims = [event for event in events if event.kind == kind]
    if name == "trigger's count":
        victims = [event for event in victims if event.data["state"]["matured"] > 1]
    for victim in (victims[0], victims[-1]):
        told = named(events, victim.seq, change)
        assert f"event {victim.seq} ({kind})" in told
        assert what in told


def leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths to all values of a JSON document."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from leaves(inner, (*path, key))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            yield from leaves(inner, (*path, at))
    else:
        yield path


def other(value: Any) -> Any:
    """Another value of the same kind, as near as there is."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, float):
        return math.nextafter(value, math.inf)
    return value + (1 if isinstance(value, int) else "x")


def changed(data: Any, path: tuple[Any, ...]) -> None:
    for key in path[:-1]:
        data = data[key]
    data[path[-1]] = other(data[path[-1]])


@pytest.mark.parametrize("kind", ["release.looked", "release.stage", "release.promoted", "release.aborted"])
def test_every_value_that_a_look_wrote_down_is_held_against_what_is_decided(events, kind):
    (victim, *_) = [event for event in events if event.kind == kind]
    short = events[: victim.seq]
    answers = {part: victim.data[part] for part in ("judgement", "release", "actions")}
    for path in list(leaves(answers))[::3]:
        assert f"event {victim.seq} ({kind})" in named(short, victim.seq, lambda data, path=path: changed(data, path))


def test_a_looser_model_file_is_found_where_it_was_first_used(events):
    (first, *_) = [event for event in events if event.kind == "serve.model"]
    (opened, *_) = [event for event in events if event.kind == "release.opened"]
    told = named(events, first.seq, lambda d: d["spec"]["release"]["judge"]["loss"].update(margin=0.5))
    assert f"event {opened.seq} (release.opened)" in told


def test_an_event_that_was_left_out_is_missed(events):
    (victim, *_) = [event for event in events if event.kind == "release.stage"]
    kept, before = [], GENESIS
    for event in (event for event in events if event is not victim):
        draft = Draft(event.kind, event.time, event.data)
        kept.append(seal(draft, event.model, len(kept) + 1, event.wall, before))
        before = kept[-1].hash
    verify(kept)
    with pytest.raises(TamperedJournal, match=r"event \d+"):
        replay_events(kept)


@pytest.mark.parametrize("column", ["kind", "time", "wall", "data", "before", "hash"])
def test_one_changed_byte_anywhere_fails_and_says_where(tmp_path, lived, events, column):
    lived.journal.close()
    shutil.copytree(lived.folder, tmp_path / "state")
    for seq in (1, len(events) // 2, len(events)):
        with sqlite3.connect(tmp_path / "state" / "journal.db") as database:
            where = f"{column} FROM events WHERE seq = {seq}"
            (value,) = database.execute(f"SELECT {where}").fetchone()
            middle = len(value) // 2 if isinstance(value, str) else 0
            wrong = value + 1 if isinstance(value, float) else _flipped(value, middle)
            database.execute(f"UPDATE events SET {column} = ? WHERE seq = ?", (wrong, seq))  # noqa: S608
        database.close()
        report = replay_state(tmp_path / "state")
        assert f"event {seq} (" in report.fault
        assert not report.ok
        assert report.to_text().startswith("not reproduced: journal of quick: event")
        with sqlite3.connect(tmp_path / "state" / "journal.db") as database:
            database.execute(f"UPDATE events SET {column} = ? WHERE seq = ?", (value, seq))  # noqa: S608
        database.close()
    assert replay_state(tmp_path / "state").ok


def _flipped(text: str, at: int) -> str:
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]
