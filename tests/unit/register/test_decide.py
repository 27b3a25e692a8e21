"""What a finished run means for the journal."""

from dataclasses import replace

from tidegate.journal.events import GENESIS, seal
from tidegate.journal.fold import ModelState
from tidegate.register.decide import Facts, decide

TRAINING = {
    "digest": "sha256:a",
    "parent": None,
    "mode": "stateless",
    "reason": "there is no parent",
    "rows": 10,
    "train_rows": 8,
    "train_from": 0.0,
    "train_until": 5.0,
    "metrics": {"train_log_loss": 0.4},
    "params": {},
    "seeds": {"train": 7},
    "feature_schema_digest": "sha256:s",
    "architecture_digest": "sha256:r",
    "lineage": {"parent": None},
    "search": {},
}
FACTS = Facts(
    "r1", "manual", 9.0, "abc.dir", {"ok": True}, {"verdict": "passed", "reason": "first_version"}, TRAINING, {}
)


def after(events, *drafts):
    for draft in drafts:
        before = events[-1].hash if events else GENESIS
        events = [*events, seal(draft, "m", len(events) + 1, 0.0, before)]
    return events


def trained(digest, parent=None):
    return {**TRAINING, "digest": digest, "parent": parent}


def test_a_passed_model_becomes_a_candidate_with_everything_it_came_from():
    found = decide([], FACTS)
    assert found.kind == "register.candidate"
    assert {"version": "v1", "digest": "sha256:a", "run": "r1", "data_version": "abc.dir"}.items() <= found.data.items()
    assert {"gate", "mode_reason", "lineage", "train_from", "train_until", "metrics", "cost"} <= set(found.data)


def test_a_retried_step_writes_nothing():
    events = after([], decide([], FACTS).draft)
    again = decide(events, FACTS)
    assert again.draft is None
    assert again.data["version"] == "v1"


def test_versions_follow_the_journal():
    events = after([], decide([], FACTS).draft)
    minor = replace(FACTS, run="r2", training=trained("sha256:b", "v1"))
    events = after(events, decide(events, minor).draft)
    major = replace(FACTS, run="r3", training=trained("sha256:c"))
    assert [decide(events, minor).data["version"], decide(events, major).data["version"]] == ["v1.1", "v2"]


def test_an_equal_model_of_another_run_is_unchanged():
    events = after([], decide([], FACTS).draft)
    found = decide(events, replace(FACTS, run="r2"))
    assert (found.kind, found.data["version"], found.data["reason"]) == ("register.unchanged", "v1", "unchanged")


def test_refusals_are_recorded_with_their_numbers_and_register_nothing():
    refused = replace(FACTS, gate={"verdict": "refused", "reason": "gate_metric", "checks": {"log_loss": 1}})
    found = decide([], refused)
    assert (found.kind, found.data["reason"], found.data["gate"]["checks"]) == (
        "evaluate.refused",
        "gate_metric",
        {"log_loss": 1},
    )
    assert "version" not in found.data
    data = decide([], replace(FACTS, report={"ok": False, "violations": [1]}, gate={}, training={}))
    assert (data.kind, data.data["report"]["violations"]) == ("validate.refused", [1])


def test_a_quarantined_digest_is_not_registered_again(monkeypatch):
    events = after([], decide([], FACTS).draft)
    aborted = ModelState(quarantined={"sha256:a": "proved_worse"})
    monkeypatch.setattr("tidegate.register.decide.fold", lambda _: aborted)
    found = decide(events, replace(FACTS, run="r2"))
    assert (found.kind, found.data["reason"]) == ("register.refused", "quarantined")
