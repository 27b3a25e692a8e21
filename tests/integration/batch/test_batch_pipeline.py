"""The batch pipeline: kfp.local runs its loop over the partitions."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import pytest
from outputs import read

from tests.batch_flights import FLIGHTS, SCHEMA, write_partitions
from tests.contract.orchestrator import ended
from tidegate.errors import UserError
from tidegate.orchestrators.local import LocalOrchestrator
from tidegate.serve import batch_steps
from tidegate.serve.batch import Job
from tidegate.serve.loaded import load_model
from tidegate.train.model_file import folder_name

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "pipelines" / "batch_prediction.yaml"


def test_every_partition_is_a_job_of_one_version_and_one_time_and_a_repeated_step_writes_nothing(trees, tmp_path):
    state, digest = trees
    frame = write_partitions(tmp_path / "in", [10, 20])
    asked = ("quick", FLIGHTS, str(state), str(tmp_path / "in"), str(tmp_path / "out"))
    jobs = batch_steps.plan(*asked)
    found = [msgspec.json.decode(job, type=Job) for job in jobs]
    assert [Path(job.input).name for job in found] == ["part-000.parquet", "part-001.parquet"]
    assert {(job.digest, job.version, job.at) for job in found} == {(digest, "v1", found[0].at)}
    assert [batch_steps.score(job) for job in (*jobs, jobs[0])] == [10, 20, 10]
    assert read(str(tmp_path / "out")).height == frame.height
    with pytest.raises(UserError, match="one CSV file is written by `tidegate serve batch`"):
        batch_steps.plan(*asked[:-1], "x.csv")


@pytest.mark.slow
def test_the_compiled_pipeline_scores_its_partitions_side_by_side_through_kfp(trees, tmp_path):
    template, digest = trees
    state = Path(shutil.copytree(template, tmp_path / "state"))
    frame = write_partitions(tmp_path / "in", [30, 20, 10])
    orchestrator, place = LocalOrchestrator(state), f"sqlite:///{tmp_path}/out.db#predictions"
    asked = {"model": "quick", "workload": FLIGHTS, "input": str(tmp_path / "in"), "output": place}
    status = ended(orchestrator, orchestrator.submit(PACKAGE, asked, "b1"), 240)
    assert (status.state, status.error) == ("succeeded", "")
    found, model = read(place), load_model(state / "models" / folder_name(digest))
    scores = dict(zip(frame["flight_id"], model.score(SCHEMA.encode_frame(frame)), strict=True))
    assert dict(zip(found["flight_id"], found["score"], strict=True)) == scores
