"""Where the commands of the docs are typed: a clean clone after the README, with the state folder of a small demo."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pytest

from tidegate.controller.reconcile import Seen, reconcile
from tidegate.evaluate.gate import Policy, gate
from tidegate.journal.events import Draft
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import Journal, open_journal
from tidegate.journal.views import seconds
from tidegate.release.fold import EvidenceFold
from tidegate.release.policy import policy_of
from tidegate.release.rows import Labels, rows_of
from tidegate.spec import Model, load_model

for folder in (Path(__file__).parents[2], Path(__file__).parent):
    sys.path.insert(0, str(folder))
from pages import ROOT, blocks  # noqa: E402

from tests.reader import Reader, clean_clone, free_ports  # noqa: E402

START, DAY, LOOKS = seconds("2013-07-01T04:00:00Z", "start"), 86400.0, 5


def candidate(version: str, first: bool) -> dict:
    """The data of a register.candidate event whose gate can be asked again."""
    days = {"rows": [100] * 14, "sums": [-2.0] * 14}
    compared = "base_rate" if first else "champion"
    measurements = {"compared_with": compared, "reference_distance": 0.0, "days": days, "slices": {}}
    policy = Policy("log_loss", 0.002)
    answer = {**asdict(gate(policy, measurements)), "policy": asdict(policy), "measurements": measurements}
    digests = dict.fromkeys(("feature_schema_digest", "architecture_digest"), "sha256:" + "0" * 64)
    told = {"version": version, "digest": "sha256:" + version[1] * 64, "run": f"r-{version}", "cause": "manual"}
    return {**told, **digests, "train_until": START, "rows": 1000, "gate": answer, "reason": answer["reason"]}


def looks(model: Model, release: str) -> list[tuple[float, dict]]:
    """Evidence of two equal versions in shadow at each midnight."""
    fold_, rng, found = EvidenceFold(policy_of(model.spec.release)), np.random.default_rng(1), []
    for day in range(LOOKS):
        at = START + DAY * (day + 2) + np.arange(200) * 400.0
        ids = [f"{release}-{day}-{i}/0" for i in range(200)]
        for arm in (0, 1):
            score, spent, copied = rng.uniform(0.1, 0.4, 200), [5.0] * 200, [arm == 1] * 200
            fold_.add(rows_of(at, ids, [arm] * 200, [1.0] * 200, mirrored=copied, score=score, latency_ms=spent))
        fold_.label(Labels(at + 3600, ids, rng.integers(0, 2, 200).astype(float)))
        now = START + DAY * (day + 3)
        found.append((now, fold_.advance(now).to_json()))
    return found


class Writer:
    """Appends what `reconcile` says, as the controller does."""

    def __init__(self, journal: Journal, model: Model) -> None:
        self.journal, self.model, self.state = journal, model, ModelState(model=model.name)

    def append(self, drafts: list[Draft]) -> None:
        self.state = fold(self.journal.append(self.model.name, drafts, self.state.seq), self.state)

    def turn(self, seen: Seen) -> None:
        self.append(reconcile(self.model, self.state, seen))


@dataclass(frozen=True)
class Workplace:
    """A clean clone in which the README was typed; `said` by each of its blocks. `up` still runs."""

    folder: Path
    ports: dict[str, str]
    said: dict[str, str]

    def types(self, text: str, wanted: int = 0) -> str:
        """A block in a shell of its own; what it started ends with it."""
        reader = Reader(self.folder, self.folder.parent / "shell", self.ports)
        try:
            return reader.types(text, wanted)
        finally:
            assert set(reader.leaves()) <= {0}


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workplace]:
    """The clone, and beside it the state folder of a short demo, as far as the docs' commands reach."""
    home = tmp_path_factory.mktemp("docs")
    clone, ports = clean_clone(home / "tidegate"), free_ports()
    reader, said = Reader(clone, home / "first", ports), {}
    try:
        for block in blocks(ROOT / "README.md"):
            if block.info == "sh readme":
                said[str(block)] = reader.types(block.text)
        _demo(clone / "demo/state")
        for name in ("versions", "dvc-remote"):
            shutil.copytree(clone / ".tidegate" / name, clone / "demo/state" / name)
        yield Workplace(clone, ports, said)
    finally:
        ended = reader.leaves()
    assert ended == [0], "tidegate up"


def _demo(state: Path) -> None:
    """v2 in shadow against v1, a few looks."""
    model = load_model(ROOT / "k8s/models/flight-delay.yaml")
    writer = Writer(open_journal(state, create=True), model)
    for day, version in enumerate(("v1", "v2")):
        now = START + DAY * day
        writer.append([Draft("register.candidate", now, candidate(version, first=not day))])
        writer.turn(Seen(now, events=[{"kind": "tick", "time": now}]))
    for now, evidence in looks(model, writer.state.release["name"]):
        writer.turn(Seen(now, evidence, [{"kind": "tick", "time": now}]))
    writer.journal.close()
