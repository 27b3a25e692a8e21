"""What a compiled package says of itself; both graphs of the seven steps agree."""

from pathlib import Path

import pytest
import yaml

from tidegate.errors import UserError
from tidegate.orchestrators.package import PackageStep, parse_package
from tidegate.orchestrators.runid import run_id
from tidegate.steps import FILES, STEPS

ROOT = Path(__file__).parents[3]
PACKAGE = ROOT / "pipelines" / "continuous_training.yaml"


def compiled():
    return parse_package(yaml.safe_load(PACKAGE.read_text()), str(PACKAGE))


def dvc_graph() -> dict[str, PackageStep]:
    """dvc.yaml as a graph of artifacts: a path's first part under data/ names the artifact."""
    names = {path: artifact for artifact, path in FILES.items()}
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]

    def artifact(entry) -> str:
        path = next(iter(entry)) if isinstance(entry, dict) else entry
        return names[Path(path).relative_to("data").parts[0]]

    outputs = {name: tuple(map(artifact, stage["outs"])) for name, stage in stages.items()}
    producers = {given: name for name, given_all in outputs.items() for given in given_all}
    inputs = {name: tuple(map(artifact, stage.get("deps", ()))) for name, stage in stages.items()}
    return {
        name: PackageStep({taken: (producers[taken], taken) for taken in inputs[name]}, outputs[name])
        for name in stages
    }


def test_the_compiled_package_and_the_dvc_stages_are_one_graph():
    graph = compiled().steps
    assert dict(graph) == dvc_graph()
    assert {name: (set(step.inputs), step.outputs) for name, step in graph.items()} == {
        name: (set(step.inputs), step.outputs) for name, step in STEPS.items()
    }


def test_the_dvc_stages_name_the_parameters_of_their_step():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    for name, stage in stages.items():
        wanted = {"model" if p == "name" else p for p in STEPS[name].parameters} - {"run"}
        assert set(stage.get("params", ())) == wanted
        assert stage["cmd"] == f"tidegate {name} --params params.yaml --root data"


def test_ingest_declares_its_manifest_only():
    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    assert stages["ingest"]["outs"] == [{"data/arrivals/manifest.json": {"cache": False}}]


def test_no_step_stands_under_a_condition_and_kfp_caches_nothing():
    document = yaml.safe_load(PACKAGE.read_text())
    for task in document["root"]["dag"]["tasks"].values():
        assert "triggerPolicy" not in task
        assert not task.get("cachingOptions", {}).get("enableCache")


def test_components_import_one_function_and_call_it():
    for name in STEPS:
        body = (ROOT / "components" / f"{name}.py").read_text()
        assert body.count("from tidegate") == body.count("from tidegate.steps import run_step") == 1
        assert body.count("run_step(") == 1


def test_arguments_are_checked():
    package = compiled()
    wanted = dict.fromkeys(package.required, "x")
    package.check(wanted, "p")
    with pytest.raises(UserError, match=r"p: colour: got 'red', takes one of its parameters: cause, champion"):
        package.check({**wanted, "colour": "red"}, "p")
    with pytest.raises(UserError, match="p: until: got None"):
        package.check({name: value for name, value in wanted.items() if name != "until"}, "p")


def test_run_ids_are_safe_names_and_follow_their_key():
    assert run_id("flight-delay-3") == "flight-delay-3"
    for key in ("../etc", "A", "", "a" * 64, "a b"):
        assert run_id(key).startswith("run-")
        assert run_id(key) == run_id(key)
    assert run_id("A") != run_id("B")
