"""Commits that a test pushes, in a clone: a quick release in event time, and a new model family."""

from __future__ import annotations

import subprocess
from pathlib import Path

import yaml

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.com")
MODEL = "flight-delay"
FAMILY = "shallow_trees"
_FILE, _OVERLAY = "k8s/models/flight-delay.yaml", "k8s/overlays/local/kustomization.yaml"
_DEFAULTS = """SHALLOW_TREES = replace(
    HIST_GRADIENT_BOOSTING, name="shallow_trees", structure={"max_leaf_nodes": 7, "max_bins": 255}
)

"""
_ESTIMATOR = '''class ShallowTrees(HistGradientBoosting):
    """The same with few leaves."""

    family = families.SHALLOW_TREES


'''
_CLOCK = """
# event time: what is asked is of 2013
- target: {kind: Deployment, name: tidegate-operator}
  patch: |
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: --clock}
    - {op: add, path: /spec/template/spec/containers/0/args/-, value: events}
"""


def commit(clone: Path, message: str) -> str:
    """Commit all; the commit's name."""
    for words in (("add", "-A"), (*NOBODY, "commit", "-qm", message)):
        subprocess.run(["git", "-C", str(clone), *words], check=True)
    told = subprocess.run(["git", "-C", str(clone), "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    return told.stdout.strip()


def quick_installation(clone: Path) -> str:
    """The Model decides within a few thousand requests, and the operator's clock is event time."""
    quick = yaml.safe_load((clone / "tests/models/quick.yaml").read_text())
    quick["metadata"]["name"] = MODEL
    (clone / _FILE).write_text(yaml.safe_dump(quick))
    (clone / _OVERLAY).write_text((clone / _OVERLAY).read_text().rstrip("\n") + _CLOCK)
    return commit(clone, "A quick release, in event time")


def new_family(clone: Path) -> str:
    """A model family: its defaults, its estimator, and the Model file that asks for it."""
    _insert(
        clone / "src/tidegate/train/families.py",
        "FAMILIES = {found.name: found for found in (LIGHTGBM, ",
        _DEFAULTS,
        "SHALLOW_TREES, ",
    )
    _insert(
        clone / "src/tidegate/train/estimators.py",
        "ESTIMATORS: Mapping[str, type[Estimator]] = {\n    kind.family.name: kind for kind in (LightGBM, ",
        _ESTIMATOR,
        "ShallowTrees, ",
    )
    document = yaml.safe_load((clone / _FILE).read_text())
    document["spec"]["training"] = {"mode": "stateless", "families": [FAMILY]}
    (clone / _FILE).write_text(yaml.safe_dump(document))
    return commit(clone, f"A model family: {FAMILY}")


def _insert(path: Path, before: str, above: str, behind: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path.name}: {before!r} is there {text.count(before)} times"
    path.write_text(text.replace(before, f"{above}{before}{behind}"))
