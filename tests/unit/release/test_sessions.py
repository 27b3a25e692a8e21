"""Sessions of an interleaving stage: against a naive reference, whatever the order and the cuts."""

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.observations import Label, Prediction, Shown
from tidegate.release.interleave import team_draft
from tidegate.release.judge import judge
from tidegate.release.judge_file import judge_file
from tidegate.release.policy import INTERLEAVE, JudgePolicy, Metric
from tidegate.release.sessions import CLICK, SessionFold

DEADLINE, DAY = 50.0, 100.0
POLICY = JudgePolicy(
    0.05,
    (Metric("credit", 0.01, INTERLEAVE, True), Metric("errors", 0.02, INTERLEAVE, False)),
    (INTERLEAVE,),
    DEADLINE,
    block=DAY,
    slo_ms=20.0,
)
NAMES = ("v1", "v2")


def shown(session, time, owners, order, took=(5.0, 5.0)):
    """The rows of one list, as the merge service logs them; `order` from the top."""
    for rank, item in enumerate(order, start=1):
        credit = NAMES[owners[rank - 1]] if None not in took else None
        yield Prediction(
            f"{session}/{item}", time, 0.0, "merge", "", "merge", 1.0, "r", 0.5, False, 9.0, [], endpoint="rank",
            shown=Shown(item, rank, credit, took),
        )  # fmt: skip


def click(session, item, time, value=1.0, wall=0.0):
    return Label(f"{session}/{item}", time, wall, value, "observed", CLICK)


@st.composite
def worlds(draw):
    """Sessions, and clicks some of which come too late or are taken back."""
    rows, clicks = [], []
    for number in range(draw(st.integers(1, 8))):
        size, name = draw(st.integers(1, 5)), f"q{number}"
        time = float(draw(st.integers(0, 300)))
        took = draw(st.sampled_from([(5.0, 5.0), (5.0, 5.0), (5.0, 30.0), (30.0, None), (None, 5.0), (None, None)]))
        mixed = team_draft(draw(st.permutations(range(size))), draw(st.permutations(range(size))), name)
        rows.append(list(shown(name, time, mixed.owner, mixed.order, took)))
        for item in draw(st.sets(st.integers(0, size - 1))):
            for wait, value in draw(st.lists(st.tuples(st.integers(1, 90), st.sampled_from([0.0, 1.0])), max_size=3)):
                clicks.append(click(name, item, time + wait, value, wall=float(len(clicks))))
    return rows, clicks


def naive(rows, clicks, watermark):
    """(requests, missing, sample ratio sum, errors sum, latency sum, credits by block) by the rules, session by one."""
    seen, missing, ratio, errors, latency, credits = 0, 0, 0.0, 0, 0, {}
    for items in rows:
        time, took = items[0].time, items[0].shown.took
        if time > watermark:
            continue
        missing += took[1] is None
        errors += (took[1] is None) - (took[0] is None)
        latency += (took[1] is None or took[1] > 20) - (took[0] is None or took[0] > 20)
        if None in took:
            continue
        seen += 1
        (top,) = [row for row in items if row.shown.rank == 1]
        ratio += 0.5 if top.shown.credit == "v2" else -0.5
        if time + DEADLINE > watermark:
            continue
        balance = 0.0
        for row in items:
            standing = [c for c in clicks if c.request_id == row.request_id and c.time <= time + DEADLINE]
            value = max(standing, key=lambda c: (c.time, c.wall)).value if standing else 0.0
            balance += value if row.shown.credit == "v2" else -value
        credits.setdefault(int(time // DAY), []).append((balance > 0) - (balance < 0))
    return seen, missing, ratio, errors, latency, credits


@given(worlds(), st.data())
def test_it_is_the_naive_count_whatever_the_order_and_the_cuts(world, data):
    rows, clicks = world
    fold, end = SessionFold(POLICY, *NAMES), float(data.draw(st.integers(0, 400)))
    fold.add(data.draw(st.permutations([row for items in rows for row in items])))
    fold.click(data.draw(st.permutations(clicks)))
    for cut in sorted(data.draw(st.lists(st.floats(0, 400), max_size=3))):
        if cut < end:
            fold.advance(cut)
    stats = fold.advance(end)
    seen, missing, ratio, errors, latency, credits = naive(rows, clicks, end)
    flat = [value for values in credits.values() for value in values]
    assert (stats.counts.requests, stats.counts.missing, stats.counts.matured) == (seen, missing, len(flat))
    assert (stats.state("sample_ratio").n, stats.state("sample_ratio").S) == (seen, ratio)
    assert (errors, latency) == (stats.state("errors").S, stats.state("latency").S)
    assert (stats.state("credit").n, stats.state("credit").S) == (len(flat), -sum(flat))
    blocks = {block: (n, s) for block, (n, s, _) in stats.blocks.get("credit", {}).items()}
    assert blocks == {block: (len(values), -sum(values)) for block, values in credits.items()}


def test_a_session_that_comes_twice_counts_once_and_one_behind_the_watermark_is_counted_as_late():
    fold = SessionFold(POLICY, *NAMES)
    rows = list(shown("q1", 10.0, (0, 1), (0, 1)))
    fold.add([*rows, *rows])
    assert fold.advance(20.0).counts.requests == 1
    fold.add(shown("q2", 15.0, (1, 0), (0, 1)))
    counts = fold.advance(21.0).counts
    assert (counts.requests, counts.late) == (2, 1)


def test_without_clicks_every_session_is_a_tie_and_nothing_is_promoted():
    fold = SessionFold(POLICY, *NAMES)
    for number in range(300):
        fold.add(shown(f"q{number}", float(number), (number % 2, 1 - number % 2), (0, 1)))
    stats = fold.advance(1000.0)
    assert stats.state("credit").estimate == 0
    found = judge(POLICY, stats, now=1000.0, opened=0.0, place=INTERLEAVE)
    assert (found.verdict, found.reason) == ("hold", "too_little_evidence")


def test_a_challenger_without_a_list_is_aborted_on_errors_though_no_credit_can_be_given():
    fold = SessionFold(POLICY, *NAMES)
    for number in range(25):
        fold.add(shown(f"q{number}", float(number), (0, 0), (0, 1), took=(5.0, None)))
    stats = fold.advance(25.0)
    found = judge(POLICY, stats, now=25.0, opened=0.0, place=INTERLEAVE)
    assert (found.verdict, found.reason) == ("abort", "proved_worse")
    assert "errors +1.0000" in found.sentence
    assert (stats.counts.requests, stats.counts.missing) == (0, 25)


def test_a_coin_that_is_not_fair_is_a_broken_sample_ratio():
    fold = SessionFold(POLICY, *NAMES)
    for number in range(100):
        fold.add(shown(f"q{number}", float(number), (1, 0), (0, 1)))
    found = judge(POLICY, fold.advance(1000.0), now=1000.0, opened=0.0, place=INTERLEAVE)
    assert (found.verdict, found.reason) == ("hold", "sample_ratio")


@pytest.mark.parametrize(("clicked", "verdict"), [("v2", "promote"), ("v1", "abort")])
def test_the_same_sessions_in_a_file_give_the_same_verdict_and_the_same_sums(tmp_path, clicked, verdict):
    fold, credits = SessionFold(POLICY, *NAMES), []
    for number in range(900):
        name, time = f"q{number:04d}", float(number)
        mixed = team_draft((0, 1, 2), (2, 1, 0), name)
        rows = list(shown(name, time, mixed.owner, mixed.order))
        fold.add(rows)
        if number % 3 == 0:
            item = next(row.shown.item for row in rows if row.shown.credit == clicked)
            fold.click([click(name, item, time + 1)])
        credits.append((time, name, (1 if clicked == "v2" else -1) * (number % 3 == 0)))
    stats = fold.advance(5000.0)
    found = judge(POLICY, stats, now=5000.0, opened=0.0, place=INTERLEAVE)
    pl.DataFrame(credits, schema=["time", "session", "credit"], orient="row").write_parquet(tmp_path / "e.parquet")
    (tmp_path / "p.yaml").write_text("alpha: 0.05\ncredit: {margin: 0.01}\nblock: 100\n")
    (line,) = judge_file(tmp_path / "e.parquet", tmp_path / "p.yaml", 1000)
    assert found.verdict == line["verdict"] == verdict
    assert found.checks["credit"].estimate == line["checks"]["credit"]["estimate"]
    assert found.checks["credit"].blocks == line["checks"]["credit"]["blocks"] == 9


def test_what_earlier_promotions_spent_of_the_losss_margin_does_not_narrow_the_credits():
    fold = SessionFold(POLICY, *NAMES)
    for number in range(900):
        rows = list(shown(f"q{number}", float(number), (number % 2, 1 - number % 2), (0, 1)))
        fold.add(rows)
        fold.click([click(f"q{number}", row.shown.item, number + 1) for row in rows if row.shown.credit == "v2"])
    stats = fold.advance(5000.0)
    found = judge(POLICY, stats, now=5000.0, opened=0.0, place=INTERLEAVE, carried=2.0)
    assert (found.verdict, found.checks["credit"].estimate) == ("promote", -1.0)
