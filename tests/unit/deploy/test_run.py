"""A deployment against an API server in memory: dry run first, waves, health, and back to what was there."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).parent))
from api_server import ApiServer

from tests.manifests import overlay
from tidegate.deploy.changes import key_of, with_images, with_pipeline
from tidegate.deploy.run import Deployment, Done
from tidegate.errors import PlatformError

ROOT = Path(__file__).parents[3]
LOCAL = overlay("local")
MODEL = yaml.safe_load((ROOT / "k8s/models/flight-delay.yaml").read_text())
OLD, NEW = ("registry.example/tidegate/components@sha256:" + digit * 64 for digit in "ab")
SERVING = "registry.example/tidegate/serving@sha256:" + "c" * 64


def objects(image: str = OLD, **images: str) -> list[dict]:
    found = with_images(LOCAL, {"components": image, **images})
    return [*found, with_pipeline(MODEL, "tidegate", image)]


def deploy(server: ApiServer, wanted: list[dict], said: list[str] | None = None, only_look: bool = False) -> Done:
    told = said if said is not None else []
    return Deployment(server, wanted, 0.0, told.append).run(only_look)


def image_of(server: ApiServer) -> str:
    (found,) = (one for key, one in server.objects.items() if key.kind == "Model")
    return found["spec"]["pipeline"]["image"]


@pytest.fixture
def server() -> ApiServer:
    return ApiServer()


@pytest.fixture
def installed(server: ApiServer) -> ApiServer:
    assert deploy(server, objects()).ok
    server.writes.clear()
    return server


def test_a_first_deployment_goes_wave_by_wave(server):
    done = deploy(server, objects())
    assert (done.ok, done.waiting) == (True, {})
    kinds = [write.split()[1] for write in server.writes]
    firsts = [place for place, kind in enumerate(kinds) if kind in ("CustomResourceDefinition", "Namespace")]
    assert firsts == list(range(len(firsts)))
    assert kinds[-1] == "Model"
    assert {one.what for one in done.changes} == {"new"}


def test_a_second_one_with_nothing_new_writes_nothing(installed):
    done = deploy(installed, objects())
    assert (done.ok, {one.what for one in done.changes}, installed.writes) == (True, {"same"}, [])


def test_a_dry_run_shows_the_diff_and_writes_nothing(installed):
    said: list[str] = []
    done = deploy(installed, objects(NEW), said, only_look=True)
    assert (done.ok, done.applied, installed.writes) == (True, False, [])
    assert "changed: Model tidegate/flight-delay" in said
    assert f"  -    image: {OLD}" in said
    assert f"  +    image: {NEW}" in said


def test_a_model_with_a_field_of_a_new_definition_is_asked_about_when_that_is_there(installed):
    def definition(found: dict) -> dict:
        return next(one for one in found if one["metadata"]["name"] == "models.tidegate.dev")

    wanted = objects(NEW)
    definition(wanted)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["description"] = "with a new field"
    told = deploy(installed, wanted, only_look=True)
    assert [str(one.key) for one in told.changes if one.what == "later"] == ["Model tidegate/flight-delay"]
    before = definition([*installed.objects.values()])
    installed.refuse = lambda one: (
        "unknown field" if one["kind"] == "Model" and definition([*installed.objects.values()]) is before else ""
    )
    done = deploy(installed, wanted)
    assert done.ok
    assert {str(one.key): one.what for one in done.changes}["Model tidegate/flight-delay"] == "changed"


def test_a_job_that_is_there_is_left_as_it_is(installed):
    assert deploy(installed, objects(NEW)).ok
    (job,) = (one for key, one in installed.objects.items() if key.kind == "Job")
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == OLD


def test_what_the_server_refuses_in_the_dry_run_changes_nothing(installed):
    before = copy.deepcopy(installed.objects)
    installed.refuse = lambda one: "spec.gate: wrong" if one["kind"] == "Model" else ""
    with pytest.raises(PlatformError, match=r"Model tidegate/flight-delay: spec\.gate: wrong"):
        deploy(installed, objects(NEW))
    assert installed.objects == before


def sick_with(image: str):
    """Nothing that names the image becomes healthy."""
    return lambda one: "image not found" if one["kind"] in ("Deployment", "Model") and image in str(one["spec"]) else ""


def test_what_does_not_become_healthy_goes_back_to_what_was_there(installed):
    before, said = {key: plain(one) for key, one in installed.objects.items()}, []
    installed.sick = sick_with(NEW)
    extra = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "more", "namespace": "tidegate"}}
    done = deploy(installed, [*objects(NEW), extra], said)
    assert not done.ok
    assert done.healthy_again
    assert {key: plain(one) for key, one in installed.objects.items()} == before
    assert image_of(installed) == OLD
    # Models wait for the operator, so this one was not touched
    assert set(done.undone) == {"ConfigMap tidegate/more", "Deployment tidegate/tidegate-operator"}
    # as if it had never been: a deployment of what is there now writes nothing
    installed.writes.clear()
    assert deploy(installed, objects()).ok
    assert installed.writes == []


def test_a_model_that_is_refused_by_the_operator_fails_at_once(installed):
    installed.sick = lambda one: "no such slice" if one["kind"] == "Model" and NEW in str(one) else ""
    done = Deployment(installed, objects(NEW), 3600.0, lambda line: None).run(only_look=False)
    assert done.trouble == "failed: Model tidegate/flight-delay: no such slice"
    assert image_of(installed) == OLD


def test_a_write_that_fails_half_way_is_undone_too(installed):
    before, asked = {key: plain(one) for key, one in installed.objects.items()}, []

    def refuse(one: dict) -> str:
        if one["kind"] != "Model" or NEW not in str(one):
            return ""
        asked.append(one)
        return "quota" if len(asked) == 2 else ""  # the dry run is the first

    installed.refuse = refuse
    done = deploy(installed, objects(NEW))
    assert "quota" in done.trouble
    assert {key: plain(one) for key, one in installed.objects.items()} == before


def test_a_first_deployment_that_fails_keeps_what_holds_data(server):
    server.sick = lambda one: "image not found" if one["kind"] == "Deployment" else ""
    done = deploy(server, objects())
    assert not done.ok
    assert {key.kind for key in server.objects} == {"CustomResourceDefinition", "Namespace", "PersistentVolumeClaim"}
    assert {name.split()[0] for name in done.kept} == {key.kind for key in server.objects}


def test_versions_that_serve_are_waited_for_with_the_new_image(installed):
    pod = {"containers": [{"name": "server", "image": "localhost/tidegate/serving:0.1.0"}]}
    labels = {"tidegate.dev/version": "v1"}
    metadata = {"name": "flight-delay-v1", "namespace": "tidegate", "labels": labels}
    version = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": {"spec": pod}}}
    installed.apply([version], dry=False)
    assert deploy(installed, objects()).ok
    done = deploy(installed, objects(OLD, serving=SERVING))
    assert done.waiting == {"Deployment tidegate/flight-delay-v1": "has the serving image of before"}
    version["spec"]["template"]["spec"]["containers"][0]["image"] = SERVING
    installed.apply([version], dry=False)
    assert deploy(installed, objects(OLD, serving=SERVING)).ok


def test_an_interrupt_goes_back_and_ends(installed):
    before = {key: plain(one) for key, one in installed.objects.items()}

    def sick(one: dict) -> str:
        if one["kind"] == "Deployment" and NEW in str(one) and image_of(installed) == NEW:
            raise KeyboardInterrupt
        return ""

    installed.sick = sick
    with pytest.raises(KeyboardInterrupt):
        deploy(installed, objects(NEW))
    installed.sick = lambda one: ""
    assert {key: plain(one) for key, one in installed.objects.items()} == before


def plain(found: dict) -> dict:
    """Without the count of its changes."""
    metadata = {name: one for name, one in found["metadata"].items() if name != "generation"}
    return {**found, "metadata": metadata}


def test_keys_tell_objects_of_one_name_apart():
    keys = [key_of(one) for one in objects()]
    assert len(keys) == len(set(keys))
