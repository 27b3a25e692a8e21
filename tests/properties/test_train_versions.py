"""Version rules under random edits of schema and architecture; a child never moves its parent's trees."""

from dataclasses import replace

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidegate.train import boosting
from tidegate.train.families import FAMILIES, LIGHTGBM, Setting, configured
from tidegate.train.lineage import Parent, format_version, minor_allowed
from tidegate.train.model_file import Feature, FeatureSchema

DEPTH = 10
words = st.text("abcdefgh", min_size=1, max_size=4)


@st.composite
def features(draw):
    name = draw(words)
    if draw(st.booleans()):
        return Feature(name, "numeric")
    return Feature(name, "category", tuple(draw(st.lists(words, max_size=5, unique=True))))


schemas = st.lists(features(), min_size=1, max_size=6, unique_by=lambda found: found.name).map(
    lambda found: FeatureSchema(tuple(found))
)


@st.composite
def edited(draw, schema):
    """One edit: rename, retype, add or drop a feature or a category, or another order."""
    found = list(schema.features)
    at = draw(st.integers(0, len(found) - 1))
    kind = draw(st.sampled_from(["rename", "retype", "add", "drop", "order", "categories"]))
    if kind == "rename":
        found[at] = replace(found[at], name=draw(words))
    elif kind == "retype":
        found[at] = draw(features())
    elif kind == "add":
        found.insert(at, draw(features()))
    elif kind == "drop":
        del found[at]
    elif kind == "order":
        found = draw(st.permutations(found))
    elif found[at].categories:
        values = [*found[at].categories, *draw(st.lists(words, max_size=1))]
        found[at] = replace(found[at], categories=tuple(draw(st.permutations(values))))
    return FeatureSchema(tuple(found))


@st.composite
def architectures(draw):
    """A family as a workload may configure it: structure and what may change from version to version, both edited."""
    base = draw(st.sampled_from(list(FAMILIES.values())))
    structure = st.fixed_dictionaries(
        {}, optional={key: st.integers(2, 4) for key, value in base.structure.items() if isinstance(value, int)}
    )
    prepared = st.fixed_dictionaries(
        {}, optional={"select": st.sampled_from([0.5, 1.0]), "components": st.sampled_from([0, 2])}
    )
    loose = st.fixed_dictionaries({}, optional={key: st.floats(0.1, 9) for key in (*base.fitting, "learning_rate")})
    return configured(base, draw(structure) | draw(prepared) | draw(loose))[0]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), schemas, architectures(), st.booleans(), st.integers(0, 12))
def test_every_allowed_minor_is_allowed_and_every_other_refused_with_its_reason(data, schema, built, healthy, minors):
    parent = Parent(format_version(3, minors), "sha256:d", schema.digest, built.architecture_digest, 0.0, healthy)
    asked = data.draw(st.just(schema) | edited(schema))
    wanted = data.draw(st.just(built) | architectures())
    found = minor_allowed(parent, asked.digest, wanted.architecture_digest, DEPTH)
    same = (wanted.name, dict(wanted.structure)) == (built.name, dict(built.structure))
    broken = [
        f"parent {parent.version} was aborted or quarantined" * (not healthy),
        f"the feature schema changed since {parent.version}" * (asked.features != schema.features),
        f"the architecture changed since {parent.version}" * (not same),
        f"{parent.version} has {DEPTH} generations already, the deepest allowed" * (minors >= DEPTH),
    ]
    assert (found.allowed, found.reason) == (not any(broken), next(filter(None, broken), ""))


NAMES = ("code", "dense", "gaps")


def drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    encoded = np.column_stack([draw.integers(0, 9, 3000), draw.normal(size=(3000, 2))]).astype(np.float32)
    encoded[draw.uniform(size=3000) < 0.2, 2] = np.nan
    return encoded, (draw.normal(size=3000) < encoded[:, 1] + (encoded[:, 0] == 3)).astype(float)


PARENT = boosting.fit(LIGHTGBM, *drawn(0), NAMES, Setting(15, 0.2), 7)


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 8), min_size=1), st.integers(1, 100))
def test_a_child_of_any_subset_of_categories_leaves_its_parents_output_bit_equal(codes, seed):
    import lightgbm

    encoded, labels = drawn(seed)
    kept = np.isin(encoded[:, 0], list(codes))
    child = boosting.fit(LIGHTGBM, encoded[kept], labels[kept], NAMES, Setting(5, 0.1), 8, PARENT)
    before, after = (lightgbm.Booster(model_str=text) for text in (PARENT, child))
    assert after.num_trees() >= before.num_trees() == 15
    outputs = [b.predict(encoded, raw_score=True, num_iteration=15).tobytes() for b in (before, after)]
    assert outputs[0] == outputs[1]
