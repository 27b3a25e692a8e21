"""Version rules: every allowed minor is allowed, every forbidden one refused with the right reason."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidegate.train.lineage import Parent, format_version, minor_allowed, next_version, parse_version

PARENT = Parent("v2.1", "sha256:d", "sha256:schema", "sha256:architecture", 0.0)
versions = st.builds(format_version, st.integers(1, 30), st.integers(0, 30))


def test_a_minor_with_equal_schema_and_architecture_of_a_healthy_parent_is_allowed():
    assert minor_allowed(PARENT, "sha256:schema", "sha256:architecture", 10).allowed


def test_without_a_parent_there_is_no_minor():
    assert "no parent" in minor_allowed(None, "s", "a", 10).reason


@given(st.booleans(), st.booleans(), st.booleans(), st.integers(0, 12), st.integers(1, 12))
def test_the_first_broken_rule_gives_the_reason(healthy, same_schema, same_architecture, minors, depth):
    parent = replace(PARENT, version=format_version(2, minors), healthy=healthy)
    schema, architecture = "schema" if same_schema else "other", "architecture" if same_architecture else "other"
    found = minor_allowed(parent, f"sha256:{schema}", f"sha256:{architecture}", depth)
    broken = [
        word
        for word, holds in (
            ("quarantined", healthy),
            ("feature schema", same_schema),
            ("architecture", same_architecture),
            ("generations", minors < depth),
        )
        if not holds
    ]
    assert found.allowed == (not broken)
    assert not broken or broken[0] in found.reason


@given(versions)
def test_names_read_back(name):
    assert format_version(*parse_version(name)) == name


@pytest.mark.parametrize("name", ["v0", "v1.0", "1", "v1.1.1", "v01", "v1.", ""])
def test_other_names_are_refused(name):
    with pytest.raises(ValueError, match="version name"):
        parse_version(name)


@given(st.sets(versions), st.data())
def test_the_next_name_is_new_and_follows_its_parent(taken, data):
    parent = data.draw(st.sampled_from(sorted(taken))) if taken and data.draw(st.booleans()) else None
    name = next_version(taken, parent)
    assert name not in taken
    major, minor = parse_version(name)
    if parent is None:
        assert (minor, major > max((parse_version(v)[0] for v in taken), default=0)) == (0, True)
    else:
        assert (major, minor > parse_version(parent)[1]) == (parse_version(parent)[0], True)


def test_the_usual_life_of_versions():
    assert [next_version([], None), next_version(["v1"], "v1"), next_version(["v1", "v1.1"], None)] == [
        "v1",
        "v1.1",
        "v2",
    ]
    assert next_version(["v1", "v1.1"], "v1") == "v1.2"
