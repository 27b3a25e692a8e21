"""`tidegate judge` over files: the contract's shapes, faults that name the row, the four kinds of evidence."""

import json

import numpy as np
import polars as pl
import pytest

from tidegate.errors import UserError
from tidegate.release.file_policy import load_file_policy
from tidegate.release.judge_file import judge_file

SPLIT_POLICY = (
    "alpha: 0.05\nloss: {metric: brier, margin: 0.02}\nerrors: {margin: 2%}\nlatency: {slo: 50ms, margin: 2%}\n"
)


@pytest.fixture
def judged(tmp_path):
    def run(frame, policy=SPLIT_POLICY, every=1000):
        frame.write_parquet(tmp_path / "e.parquet")
        (tmp_path / "p.yaml").write_text(policy)
        return list(judge_file(tmp_path / "e.parquet", tmp_path / "p.yaml", every))

    return run


def split(size=20_000, seed=1, worse=0.0, broken=0.0, share=0.5, **more):
    rng = np.random.default_rng(seed)
    a = rng.random(size) < share
    return pl.DataFrame(
        {
            "time": 1.4e9 + np.arange(size) * 60.0,
            "unit": [f"u{i}" for i in range(size)],
            "arm": np.where(a, "challenger", "champion"),
            "propensity": np.where(a, share, 1 - share),
            "loss": np.clip(rng.random(size) * 0.3 + worse * a, 0, 1),
            "error": (rng.random(size) < 0.002 + broken * a).astype(int),
            "latency_ms": rng.exponential(8.0, size),
            **more,
        }
    )


def pairs(size=6000, seed=2, worse=0.0):
    rng = np.random.default_rng(seed)
    base = rng.random(size) * 0.5
    rows = {"time": np.arange(size) * 60.0, "unit": "u", "propensity": 1.0, "error": 0, "latency_ms": 5.0}
    ids = [f"q{i:06d}" for i in range(size)]
    both = [
        pl.DataFrame(
            {**rows, "request_id": ids, "arm": arm, "loss": np.clip(base + rng.normal(0, 0.05, size) + d, 0, 1)}
        )
        for arm, d in (("champion", 0.0), ("challenger", worse))
    ]
    return pl.concat(both).sort("time", "arm")


def test_an_equal_challenger_is_promoted_and_the_lines_have_the_contracts_shape(judged):
    lines = judged(split())
    assert lines[-1]["verdict"] == "promote"
    assert all(line["verdict"] == "hold" for line in lines[:-1])
    assert [line["look"] for line in lines] == list(range(1, len(lines) + 1))
    assert lines[0]["requests"] == lines[0]["matured"] == 1000
    assert {"loss", "errors", "latency", "sample_ratio"} <= set(lines[-1]["checks"])
    assert {"estimate", "lower", "upper", "margin"} <= set(lines[-1]["checks"]["loss"])
    json.dumps(lines, allow_nan=False)


def test_a_worse_challenger_and_a_broken_one_are_aborted(judged):
    assert judged(split(worse=0.05))[-1]["verdict"] == "abort"
    found = judged(split(broken=0.2), every=50)[-1]
    assert (found["verdict"], found["reason"]) == ("abort", "proved_worse")
    assert found["requests"] < 1000


def test_fifty_requests_hold(judged):
    assert [line["verdict"] for line in judged(split(50), every=10)] == ["hold"] * 5


def test_nothing_matured_holds_and_is_counted(judged):
    policy = SPLIT_POLICY + "labelDeadline: 24h\nnow: 1400000000\n"
    last = judged(split(), policy)[-1]
    assert (last["verdict"], last["matured"], last["requests"]) == ("hold", 0, 20_000)


def test_maturity_goes_by_the_one_now(judged):
    policy = SPLIT_POLICY + "labelDeadline: 1h\nnow: 2014-05-13T18:53:20Z\n"  # 1.4e9 + 2 h
    lines = judged(split(), policy, every=30)
    assert [line["matured"] for line in lines[:4]] == [30, 60, 61, 61]


def test_shares_are_written_either_way(judged, tmp_path):
    judged(split(100), "errors: {margin: 0.5%}\n")
    first = load_file_policy(tmp_path / "p.yaml")
    judged(split(100), "errors: {margin: 0.005}\n")
    assert first == load_file_policy(tmp_path / "p.yaml")


def test_only_what_is_written_is_judged_and_by_default_loss_and_errors(judged):
    ratios = {"sample_ratio", "sample_ratio_labels"}
    assert set(judged(split(100), "errors: {margin: 0.5%}\n")[0]["checks"]) == {"errors", *ratios}
    assert set(judged(split(100), "alpha: 0.05\n")[0]["checks"]) == {"loss", "errors", *ratios}


def test_the_result_does_not_depend_on_the_looks(judged):
    policy = "loss: {margin: 0.0001}\nblock: 1d\n"
    one, many = judged(split(), policy, 20_000)[-1], judged(split(), policy, 333)[-1]
    for name, check in one["checks"].items():
        for key, value in check.items():
            if isinstance(value, float):
                assert many["checks"][name][key] == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("drop", [True, False])
def test_evidence_without_propensity_holds_with_the_reason(judged, drop):
    frame = split().drop("propensity") if drop else split(propensity=pl.Series([None] * 20_000, dtype=pl.Float64))
    assert {(line["verdict"], line["reason"]) for line in judged(frame)} == {("hold", "no_propensity")}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("propensity", 0.0),
        ("propensity", 1.5),
        ("propensity", float("nan")),
        ("arm", "somebody"),
        ("loss", float("nan")),
        ("loss", 1.2),
        ("loss", -0.1),
        ("latency_ms", float("nan")),
        ("error", 2),
        ("time", float("nan")),
    ],
)
def test_a_fault_in_a_row_names_the_row(judged, column, value):
    frame = split(100)
    values = frame[column].to_list()
    values[17] = value
    with pytest.raises(UserError, match=f"row 17 .*u17.*{column}"):
        judged(frame.with_columns(pl.Series(column, values)))


@pytest.mark.parametrize("column", ["time", "arm", "loss", "error", "latency_ms"])
def test_a_missing_column_is_named(judged, column):
    with pytest.raises(UserError, match=f"a column {column}"):
        judged(split(100).drop(column))


def test_files_that_are_none(tmp_path, judged):
    judged(split(100))
    with pytest.raises(UserError, match="no file"):
        list(judge_file(tmp_path / "none.parquet", tmp_path / "p.yaml"))
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 but not really")
    with pytest.raises(UserError, match="readable Parquet"):
        list(judge_file(tmp_path / "bad.parquet", tmp_path / "p.yaml"))
    with pytest.raises(UserError, match="no rows"):
        judged(split(100).head(0))
    with pytest.raises(UserError, match="--every"):
        judged(split(100), every=0)


@pytest.mark.parametrize(
    ("policy", "match"),
    [
        ("alpha: lots\n", "alpha.*share"),
        ("alfa: 0.05\n", "alfa.*no such field"),
        ("loss: {margin: -1}\n", "loss.margin"),
        ("labelDeadline: tomorrow\n", "labelDeadline.*span"),
        ("now: later\n", "now.*time"),
        ("arms: [a]\n", "arms"),
        ("- 1\n", "mapping"),
    ],
)
def test_a_fault_in_the_policy_names_the_field(judged, policy, match):
    with pytest.raises(UserError, match=match):
        judged(split(100), policy)


def test_a_split_that_is_not_the_one_logged_latches(judged):
    frame = split(share=0.5).with_columns(propensity=pl.lit(0.5))
    skewed = pl.concat([frame.head(3000), frame.slice(3000).filter(pl.col("arm") == "challenger")])
    lines = judged(skewed, "loss: {margin: 0.0001}\n")
    assert [line["reason"] == "sample_ratio" for line in lines[:5]] == [False] * 3 + [True] * 2
    assert lines[-1]["reason"] == "sample_ratio"


def test_paired_evidence_is_judged_by_its_differences(judged):
    policy = "loss: {margin: 0.01}\nerrors: {margin: 1%}\n"
    found = judged(pairs(), policy)
    assert found[-1]["verdict"] == "promote"
    assert found[0]["requests"] == 500
    assert "sample_ratio" not in found[-1]["checks"]
    assert judged(pairs(worse=0.02), policy)[-1]["verdict"] == "abort"


def test_a_copy_that_never_comes_is_the_challengers_error(judged):
    frame = pairs().filter((pl.col("arm") == "champion") | (pl.int_range(pl.len()) % 7 != 0))
    found = judged(frame, "errors: {margin: 1%}\n")[-1]
    assert found["verdict"] == "abort"
    assert found["checks"]["errors"]["estimate"] > 0.05


def test_a_row_that_is_there_twice_counts_once(judged):
    twice = pl.concat([pairs(500), pairs(500)])
    assert judged(twice, "loss: {margin: 0.01}\n", every=5000)[-1]["checks"]["loss"]["n"] == 500


def test_units_that_stay_in_their_arm_are_found_and_count_once(judged):
    size, rng = 8000, np.random.default_rng(3)
    unit = rng.integers(0, 400, size)
    a = unit % 2 == 0
    frame = split(size, unit=unit, arm=np.where(a, "challenger", "champion"))
    found = judged(frame, SPLIT_POLICY)[-1]
    assert found["unit"] == "sticky (inferred)"
    assert found["checks"]["loss"]["n"] == 400
    assert found["requests"] == 8000
    assert judged(frame, SPLIT_POLICY + "unit: request\n")[-1]["checks"]["loss"]["n"] > 400
    assert judged(split(2000))[-1]["unit"] == "request (inferred)"


def three(size=30_000, worse=(0.0, 0.0)):
    rng = np.random.default_rng(5)
    arm = rng.integers(0, 3, size)
    d = np.array([0.0, *worse])[arm]
    names = np.array(["champion", "a", "b"])[arm]
    weights = pl.Series([[1 / 3] * 3] * size)
    loss = np.clip(rng.random(size) * 0.3 + 0.1 + d, 0, 1)
    return split(size, arm=names, propensity=1 / 3, weights=weights, loss=loss)


ARMS = "arms: [champion, a, b]\nloss: {margin: 0.02}\n"


def test_of_several_challengers_the_one_that_may_is_promoted_and_named(judged):
    found = judged(three(worse=(0.05, -0.02)), ARMS)[-1]
    assert (found["verdict"], found["arm"]) == ("promote", "b")
    assert {"loss@a", "loss@b", "sample_ratio@a"} <= set(found["checks"])


def test_several_challengers_are_aborted_only_together(judged):
    assert judged(three(worse=(0.05, 0.05)), ARMS)[-1]["verdict"] == "abort"
    assert judged(three(3000, worse=(0.2, 0.018)), ARMS)[-1]["verdict"] == "hold"
    assert judged(three().drop("weights"), ARMS)[-1]["reason"] == "no_propensity"


def test_interleaving_is_judged_by_its_credits(judged):
    rng = np.random.default_rng(4)

    def sessions(lean):
        credit = rng.choice([-1, 0, 1], 8000, p=[0.2 - lean, 0.6, 0.2 + lean])
        return pl.DataFrame({"time": np.arange(8000.0), "session": np.arange(8000), "credit": credit})

    assert judged(sessions(0.05), "alpha: 0.05\n")[-1]["verdict"] == "promote"
    assert judged(sessions(-0.05), "alpha: 0.05\n")[-1]["verdict"] == "abort"
    with pytest.raises(UserError, match=r"row 3 .*credit"):
        judged(
            sessions(0).with_columns(credit=pl.when(pl.int_range(pl.len()) == 3).then(2).otherwise(0)), "alpha: 0.05\n"
        )


def test_times_may_be_dates_or_text(judged):
    frame = split(300)
    stamps = pl.from_epoch((pl.col("time") * 1e6).cast(pl.Int64), time_unit="us")
    expected = judged(frame, every=300)
    assert judged(frame.with_columns(time=stamps), every=300) == expected
    assert judged(frame.with_columns(time=stamps.dt.strftime("%Y-%m-%dT%H:%M:%SZ")), every=300) == expected


def test_blocks_and_least_duration_are_asked_only_where_the_policy_names_them(judged):
    loss = "loss: {margin: 0.02}\n"
    assert judged(split(), loss)[-1]["requests"] < 9000
    with_blocks = judged(split(), loss + "block: 1d\n")[-1]
    assert (with_blocks["verdict"], with_blocks["checks"]["loss"]["blocks"]) == ("promote", 7)
    assert judged(split(), loss + "minDuration: 30d\n")[-1]["reason"] == "min_duration"


METRICS = "metrics: [{name: cost, margin: 1, bound: 20}]\n"


def costs(a, worse, seed=6):
    rng = np.random.default_rng(seed)
    return np.clip(rng.exponential(4.0, len(a)) + worse * a, 0, 20)


@pytest.mark.parametrize(("worse", "verdict"), [(0.0, "promote"), (3.0, "abort")])
def test_a_business_metric_is_a_check_like_the_others(judged, worse, verdict):
    frame = split()
    found = judged(frame.with_columns(cost=costs((frame["arm"] == "challenger").to_numpy(), worse)), METRICS)[-1]
    assert found["verdict"] == verdict
    assert found["checks"]["cost"]["margin"] == 1
    assert set(found["checks"]) == {"cost", "sample_ratio", "sample_ratio_labels", "sample_ratio_labels_cost"}


def test_a_business_metric_whose_values_are_lost_in_one_arm_holds(judged):
    frame = split().with_columns(cost=costs(np.zeros(20_000), 0.0))
    lost = frame.with_columns(
        cost=pl.when((pl.col("arm") == "challenger") & (pl.int_range(pl.len()) % 5 == 0)).then(None).otherwise("cost")
    )
    assert judged(lost, METRICS.replace("margin: 1", "margin: 0.1"))[-1]["reason"] == "sample_ratio"


def test_a_better_challenger_with_a_worse_business_metric_is_aborted(judged):
    frame = split(worse=-0.05)
    cost = costs((frame["arm"] == "challenger").to_numpy(), 3.0)
    found = judged(frame.with_columns(cost=cost), "loss: {margin: 0.01}\n" + METRICS)[-1]
    assert (found["verdict"], "cost" in found["sentence"]) == ("abort", True)


def test_a_slice_that_is_much_worse_aborts_a_challenger_that_is_better_on_average(judged):
    frame, rng = split(worse=-0.03), np.random.default_rng(9)
    origin = rng.choice(["EWR", "JFK", "LGA"], frame.height, p=[0.6, 0.3, 0.1])
    bad = (origin == "LGA") & (frame["arm"] == "challenger").to_numpy()
    frame = frame.with_columns(origin=origin, loss=np.clip(frame["loss"].to_numpy() + 0.3 * bad, 0, 1))
    found = judged(frame, "loss: {margin: 0.01, slices: [origin]}\n", every=200)
    assert found[-1]["verdict"] == "abort"
    assert "loss[origin=LGA]" in found[-1]["sentence"]
    assert found[-1]["checks"]["loss"]["estimate"] < 0.01
    assert judged(frame, "loss: {margin: 0.02}\n", every=200)[-1]["verdict"] == "promote"


def test_pairs_have_slices_and_business_metrics_too(judged):
    frame = pairs().with_columns(
        origin=pl.lit("JFK"), cost=pl.when(pl.col("arm") == "champion").then(2.0).otherwise(6.0)
    )
    found = judged(frame, "loss: {margin: 0.01, slices: [origin]}\n" + METRICS)[-1]
    assert (found["verdict"], found["checks"]["cost"]["estimate"]) == ("abort", pytest.approx(4.0))
    assert found["checks"]["loss[origin=JFK]"]["n"] == found["checks"]["loss"]["n"]


@pytest.mark.parametrize("value", [-0.1, 20.5, float("nan")])
def test_a_business_value_out_of_its_bound_names_the_row(judged, value):
    values = [1.0] * 100
    values[17] = value
    with pytest.raises(UserError, match=r"row 17 .*u17.*cost"):
        judged(split(100, cost=values), METRICS)


@pytest.mark.parametrize("names", ["loss", "cost, cost", "weights"])
def test_a_business_metric_has_a_name_of_its_own(judged, names):
    listed = ", ".join(f"{{name: {name}, margin: 1, bound: 2}}" for name in names.split(", "))
    with pytest.raises(UserError, match="metrics"):
        judged(split(100), f"metrics: [{listed}]\n")


@pytest.mark.parametrize("column", ["cost", "origin"])
def test_a_column_that_a_metric_or_a_slice_asks_for_is_named_when_it_is_missing(judged, column):
    with pytest.raises(UserError, match=f"a column {column}"):
        judged(split(100), "loss: {slices: [origin]}\n" if column == "origin" else METRICS)
