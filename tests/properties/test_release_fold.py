"""The columns of the fold against a naive one that goes through requests one by one, by the rules as written."""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tidegate.release import index
from tidegate.release.fold import EvidenceFold
from tidegate.release.policy import JudgePolicy, Metric
from tidegate.release.rows import Labels, rows_of, take

DEADLINE, SLO, BLOCK, BOUND, END = 30.0, 10.0, 25.0, 4.0, 500.0
POLICY = JudgePolicy(
    alpha=0.05,
    metrics=(
        Metric("loss", 0.005, "shadow", True),
        Metric("errors", 0.005, "split", False),
        Metric("cost", 0.1, "split", True, BOUND),
    ),
    places=("shadow", "split"),
    label_deadline=DEADLINE,
    block=BLOCK,
    slo_ms=SLO,
    slices=("origin",),
)


def traffic(seed, size):
    """Rows as dicts: splits, shadows and watches, copies that do not come or come alone, retries; labels as tuples.

    Some requests ask about several rows, which share the draw, the failure and the latency.
    """
    rng = np.random.default_rng(seed)
    rows, labels = [], []
    for number in range(size):
        request, time, kind = f"q{number}", float(rng.integers(0, 80)), rng.choice(["split", "shadow", "watch"])
        origins = [str(rng.choice(["E", "J", "L"])) for _ in range(rng.choice([1, 1, 2, 11]))]

        def asked(arm, share, mirrored, at, request=request, origins=origins):
            error, latency = bool(rng.random() < 0.2), float(rng.exponential(8))
            common = {"time": at, "arm": arm, "share": share, "mirrored": mirrored, "error": error, "latency": latency}
            return [{**common, "id": f"{request}/{part}", "part": part, "of": request, "origin": origin,
                     "score": math.nan if error else rng.random()} for part, origin in enumerate(origins)]  # fmt: skip

        if kind == "split":
            arm, pi = int(rng.integers(0, 2)), float(rng.choice([0.1, 0.5]))
            rows += asked(arm, pi if arm else 1 - pi, False, time)
        else:
            main = 0 if kind == "shadow" else 1
            both = [asked(main, 1.0, False, time), asked(1 - main, 1.0, True, time + float(rng.integers(0, 3)))]
            rows += [one for answer in both if rng.random() < 0.85 for one in answer]
        for part in range(len(origins)):
            for metric, values in (("", [0.0, 1.0, math.nan]), ("cost", [0.0, 1.5, 9.0])):
                for _ in range(rng.choice([0, 1, 1, 1, 2, 3])):
                    told = time + float(rng.integers(0, 45))
                    labels.append((metric, f"{request}/{part}", told, float(rng.choice(values))))
    rows += [{**one, "time": one["time"] + 1, "score": 0.5} for one in rows[::7]]
    labels.append(("", "stranger", 3.0, 1.0))
    return rows, [(*label, float(wall)) for wall, label in enumerate(labels)]


def mean(values):
    """The mean of the values that are known; nan when none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


class Naive:
    """States by place and check as [n, sum_y, S, V, W], sums a block, counts: when all has come in time."""

    def __init__(self, rows, labels):
        self.labels, first = labels, {}
        self.states = defaultdict(lambda: [0, 0.0, 0.0, 0.0, 0.0])
        self.blocks, self.counts = defaultdict(lambda: [0, 0.0, 0.0]), defaultdict(int)
        for one in sorted(rows, key=lambda r: (r["time"], r["id"])):
            first.setdefault((one["id"], one["arm"]), one)
        self.answers = defaultdict(list)
        for one in first.values():
            self.answers[one["of"], one["arm"]].append(one)
        for answer in sorted(self.answers.values(), key=lambda a: (a[0]["time"], a[0]["id"])):
            self.split(answer) if not answer[0]["mirrored"] and answer[0]["share"] < 1 else self.mirrored(answer)

    def told(self, metric, one):
        ours = [x for x in self.labels if x[:2] == (metric, one["id"]) and x[2] <= one["time"] + DEADLINE]
        return max(ours, key=lambda label: (label[2], label[4])) if ours else None

    def loss(self, one):
        label = self.told("", one)
        return (one["score"] - label[3]) ** 2 if label else math.nan

    def add(self, place, check, x, w=1.0, y=None, time=None):
        s = self.states[place, check]
        s[:] = [s[0] + 1, s[1] + (x if y is None else y), s[2] + x, s[3] + x * x, s[4] + w]
        if time is not None:
            b = self.blocks[place, check, int(time // BLOCK)]
            b[:] = [b[0] + 1, b[1] + x, b[2] + w]

    def differ(self, check, y, one, time=None):
        pi = one["share"] if one["arm"] else 1 - one["share"]
        n, total = self.states["split", check][:2]
        if not math.isnan(y):
            self.add("split", check, (y - (total / n if n else 0.0)) * (one["arm"] - pi), pi * (1 - pi), y, time)

    def split(self, answer):
        one, arm = answer[0], answer[0]["arm"]
        pi = one["share"] if arm else 1 - one["share"]
        self.counts["split", "requests"] += 1
        self.differ("errors", float(one["error"]), one)
        self.differ("latency", float(one["latency"] > SLO), one)
        self.add("split", "sample_ratio", arm - pi)
        if any(self.told("", row) for row in answer):
            self.add("split", "sample_ratio_labels", arm - pi)
        else:
            self.counts["split", "unlabelled_" + ("challenger" if arm else "champion")] += 1
        self.differ("loss", mean(map(self.loss, answer)), one, one["time"])
        for origin in {row["origin"] for row in answer}:
            own = [self.loss(row) for row in answer if row["origin"] == origin]
            self.differ(f"loss[origin={origin}]", mean(own), one, one["time"])
        costs = [cost[3] for row in answer if (cost := self.told("cost", row))]
        if costs:
            self.add("split", "sample_ratio_labels_cost", arm - pi)
            self.counts["split", "out_of_bound"] += sum(cost > BOUND for cost in costs)
            self.differ("cost", mean([min(cost / BOUND, 1.0) for cost in costs]), one, one["time"])

    def mirrored(self, answer):
        one = answer[0]
        place = "shadow" if one["mirrored"] == (one["arm"] == 1) else "watch"
        other = self.answers.get((one["of"], 1 - one["arm"]))
        if one["mirrored"]:
            self.counts[place, "orphans"] += other is None
        elif other is None:
            self.counts[place, "missing"] += 1
            if place == "shadow":
                self.add(place, "errors", 1 - float(one["error"]))
                self.add(place, "latency", 1 - float(one["latency"] > SLO))
        else:
            self.pair(place, one["time"], *((answer, other) if one["arm"] else (other, answer)))

    def pair(self, place, time, new, old):
        self.add(place, "errors", float(new[0]["error"]) - float(old[0]["error"]))
        self.add(place, "latency", float(new[0]["latency"] > SLO) - float(old[0]["latency"] > SLO))
        main = new if old[0]["mirrored"] else old
        found = defaultdict(list)
        for asked, ours, theirs in zip(main, new, old, strict=True):
            value = self.told("", asked)
            x = (ours["score"] - value[3]) ** 2 - (theirs["score"] - value[3]) ** 2 if value else math.nan
            for check in ("loss", f"loss[origin={asked['origin']}]"):
                found[check].append(x)
        for check, values in found.items():
            if not math.isnan(x := mean(values)):
                self.add(place, check, x, time=time)


def table(rows):
    def column(name):
        return [one[name] for one in rows]

    return rows_of(
        column("time"), column("id"), column("arm"), column("share"), mirrored=column("mirrored"),
        score=column("score"), error=column("error"), latency_ms=column("latency"), groups=[column("origin")],
        part=column("part"),
    )  # fmt: skip


def told(fold, labels):
    for metric in ("", "cost"):
        own = [label for label in labels if label[0] == metric]
        time, value, wall = (np.array([label[i] for label in own], float) for i in (2, 3, 4))
        fold.label(Labels(time, [label[1] for label in own], value, metric, wall))


def compare(evidence, expected):
    states, blocks, counts = expected.states, expected.blocks, expected.counts
    for (place, check), sums in states.items():
        found = evidence.at(place).state(check)
        assert [found.n, found.sum_y, found.S, found.V, found.W] == pytest.approx(sums, abs=1e-9), (place, check)
    for (place, check, block), sums in blocks.items():
        assert list(evidence.at(place).blocks[check][block]) == pytest.approx(sums, abs=1e-9)
    for (place, name), n in counts.items():
        assert getattr(evidence.at(place).counts, name) == n, (place, name)
    seen = {(place, check) for place, stats in evidence.places.items() for check, s in stats.states.items() if s.n}
    assert seen == {key for key, sums in states.items() if sums[0]}


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_fold_is_the_naive_one_whatever_the_order_and_the_looks(seed, size, chance):
    rows, labels = traffic(seed, size)
    expected = Naive(rows, labels)
    fold, marks = EvidenceFold(POLICY), sorted({*(float(chance.randint(0, 130)) for _ in range(5)), END})
    chance.shuffle(rows)
    chance.shuffle(labels)
    told(fold, labels[: len(labels) // 2])
    told(fold, labels[len(labels) // 2 :])
    for low, high in zip([-1.0, *marks], marks, strict=False):
        come = [one for one in rows if low < one["time"] <= high]
        for part in (come[::2], come[1::2]):
            if part:
                fold.add(table(part))
        fold.advance(high)
    compare(fold.advance(END), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_ids_whose_hashes_are_equal_are_still_told_apart(seed, size):
    rows, labels = traffic(seed, size)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index, "hashes_of", lambda ids: np.array([len(one) for one in ids], np.uint64))
        fold = EvidenceFold(POLICY)
        told(fold, labels)
        fold.add(table(rows))
        compare(fold.advance(END), Naive(rows, labels))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.lists(st.integers(0, 60), max_size=30)), max_size=12))
def test_the_index_is_a_dictionary(turns):
    table, known = index.IdIndex(), {}
    for leaves, numbers in turns:
        ids = np.array([f"q{n}" for n in numbers], dtype=object)
        if leaves:
            gone = sorted({one for one in ids if one in known})
            table.release(np.array([known.pop(one) for one in gone], dtype=np.int64))
        else:
            slots = table.slots(ids).tolist()
            for one, slot in zip(ids, slots, strict=True):
                assert known.setdefault(one, slot) == slot
        assert sorted(table.live.tolist()) == sorted(known.values())
        assert len(table) == len(known) == len(set(known.values()))


def test_slots_are_given_back_so_that_memory_follows_what_waits():
    fold = EvidenceFold(JudgePolicy(0.05, POLICY.metrics[:2], ("split",), DEADLINE))
    for look in range(60):
        ids = [f"{look}-{i}" for i in range(500)]
        fold.add(rows_of(np.full(500, look * 10.0), ids, [0, 1] * 250, [0.5] * 500, score=[0.5] * 500))
        fold.label(Labels(np.full(500, look * 10.0 + 1), ids, np.zeros(500)))
        fold.advance(look * 10.0 + 5)
    assert fold._book._index.made <= 500 * (DEADLINE / 10 + 3)
    assert fold.advance(1e6).at("split").state("loss").n == 60 * 500


def test_taking_every_row_is_the_table_itself():
    rows = rows_of([1.0, 2.0], ["a", "b"], [0, 1], [0.5, 0.5])
    assert take(rows, np.array([True, True])) is rows
