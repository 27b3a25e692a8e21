"""The definitions take what the Model file's own reader takes, and refuse what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from k8s.crds.definitions import definitions
from tests.planted_specs import FAULTS, planted
from tests.structural import faults, stored
from tidegate.errors import UserError
from tidegate.spec import load_model, parse_model

ROOT = Path(__file__).resolve().parents[3]
FILES = sorted(
    path
    for folder in ("k8s/models", "tests/models", "demo")
    for path in (ROOT / folder).glob("*.yaml")
    if "kind: Model" in path.read_text()
)
MODEL = yaml.safe_load((ROOT / "k8s/models/flight-delay.yaml").read_text())


def schema_of(name: str) -> dict[str, Any]:
    return definitions()[name]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


SPEC = schema_of("models.yaml")["properties"]["spec"]


def test_there_are_model_files():
    assert len(FILES) >= 5


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_model_file_is_taken_and_means_the_same_with_the_defaults_filled_in(path):
    document = yaml.safe_load(path.read_text())
    assert list(faults(SPEC, document["spec"], "spec")) == []
    kept = {**document, "spec": stored(SPEC, document["spec"])}
    assert kept != document
    assert parse_model(kept, "stored") == load_model(path)


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_refused_by_both_with_its_field(name):
    path, value, field = FAULTS[name]
    document = planted(MODEL, path, value)
    found = list(faults(SPEC, document["spec"], "spec"))
    if name != "null_for_a_default":  # the API server drops it and fills the default in
        assert any(field in fault.split(":")[0] for fault in found), found
    with pytest.raises(UserError) as refused:
        parse_model(document, "file")
    assert field.replace("[", ".").replace("]", "") in str(refused.value)


def written(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    """Values that a schema takes, now and then something else in the place of one."""
    junk = st.sampled_from([True, 0, -1, 0.5, "x", "5%", "1d", [], {}, ["x"], {"nosuch": 1}])
    right = _right(schema)
    return st.integers(0, 24).flatmap(lambda drawn: junk if drawn == 0 else right)


def _right(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    made = _RIGHT[schema["type"]](schema)
    return st.none() | made if schema.get("nullable") else made


def _object(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    known = schema.get("properties", {})
    if "additionalProperties" in schema:
        return st.dictionaries(st.sampled_from(["champion", "a", "b"]), written(schema["additionalProperties"]))
    fields = {n: written(field) if "default" in field else st.none() | written(field) for n, field in known.items()}
    required = {name: fields.pop(name) for name in schema.get("required", ())}
    return st.fixed_dictionaries(required, optional=fields)


def _string(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if "workload" in schema.get("description", ""):
        return st.sampled_from(["a.b:c", "flights.workload:flight_delay"])
    return st.sampled_from(["1d", "24h", " 30 s", "0.5%", "5 %"]) if "pattern" in schema else st.just("text")


def _number(schema: dict[str, Any]) -> st.SearchStrategy[Any]:
    return st.floats(0, 2, width=16) | st.integers(0, 3)


_RIGHT = {
    "object": _object,
    "string": _string,
    "boolean": lambda schema: st.booleans(),
    "integer": lambda schema: st.integers(0, 9),
    "number": _number,
    "array": lambda schema: st.lists(written(schema["items"]), max_size=schema.get("maxItems", 3) and 3),
}


def read(spec: Any) -> str:
    """Empty where the file's own reader takes it, else why not."""
    try:
        parse_model({**MODEL, "spec": spec}, "drawn")
    except UserError as error:
        return str(error)
    return ""


# the parts are drawn one by one: a whole spec would hardly ever be right
PARTS = [(name, field) for name, field in SPEC["properties"].items() if name != "workload"]


@pytest.mark.parametrize(("name", "field"), PARTS, ids=[name for name, _ in PARTS])
@given(data=st.data())
def test_both_readers_agree_on_whatever_is_written(name, field, data):
    value = data.draw(written(field))
    spec = {**MODEL["spec"], name: value}
    found = list(faults(SPEC, spec, "spec"))
    assert bool(found) == bool(read(spec)), (found, read(spec))


def nodes(schema: dict[str, Any], path: str = ""):
    yield path, schema
    for name, inner in schema.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for key in ("items", "additionalProperties"):
        if key in schema:
            yield from nodes(schema[key], f"{path}[]")


@pytest.mark.parametrize("name", definitions())
def test_every_node_has_one_type_and_every_field_is_explained(name):
    for path, node in nodes(schema_of(name)):
        assert node["type"] in _RIGHT, path
        named = path and not path.endswith(("[]", ".metadata", ".metadata.name"))
        assert node.get("description") or not named, f"{path} has no description"


@pytest.mark.parametrize("name", definitions())
def test_defaults_are_what_their_own_field_takes(name):
    for path, node in nodes(schema_of(name)):
        if "default" in node:
            assert list(faults(node, node["default"])) == [], path
