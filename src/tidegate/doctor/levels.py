"""The levels as a table of items: what is asked, what counts as evidence, the command that would add it.

Level 0 is a model made by hand. Level 1: the training is a pipeline that starts by itself, on data and models that are
checked. Level 2: code, pipeline and models reach production by tests, builds and evidence, each of them automatic. A
project is at the highest level all of whose items, and those below, have evidence. Evidence is what files say: imports,
YAML documents, stages; that a command runs well is for its tests to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tidegate
from tidegate.doctor.project import Project, is_test
from tidegate.errors import TidegateError

Find = Callable[[Project], list[str]]
NEW = "tidegate new NAME --from FILE --label COL --time COL --key COL"
SHOWN = 3
"""Pieces of evidence that are told."""


@dataclass(frozen=True)
class Item:
    """One thing that a level needs: `find` gives its evidence, `fix` the command that would add it."""

    level: int
    name: str
    asks: str
    find: Find
    fix: str


@dataclass(frozen=True)
class Looked:
    """An item and what was found; no evidence is no."""

    item: Item
    evidence: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """Whether there is evidence."""
        return bool(self.evidence)


def look(project: Project) -> list[Looked]:
    """Every item with its evidence."""
    return [Looked(item, tuple(item.find(project)[:SHOWN])) for item in ITEMS]


def level_of(looked: list[Looked]) -> int | None:
    """The highest level that holds with those below it; None where nothing trains a model."""
    level = None
    for wanted in (0, 1, 2):
        if not all(one.holds for one in looked if one.item.level == wanted):
            break
        level = wanted
    return level


def clone() -> Path:
    """The clone of Tidegate that this is."""
    return Path(tidegate.__file__).resolve().parents[2]


MODELLING = (
    *("sklearn", "lightgbm", "xgboost", "catboost", "torch", "tensorflow", "keras", "statsmodels", "transformers"),
    "tidegate.workload.Workload",
)


def _models(project: Project) -> list[str]:
    return project.importing(*MODELLING)


def _stages(project: Project) -> Iterator[tuple[str, list[str]]]:
    """(where, names of steps) of every pipeline that is written down as one."""
    for path in project.yaml_files:
        for document in project.documents(path):
            if not isinstance(document, dict):
                continue
            if path.endswith("dvc.yaml") and isinstance(document.get("stages"), dict):
                yield path, list(document["stages"])
            tasks = _get(document, "root", "dag", "tasks")
            if isinstance(tasks, dict):
                yield path, list(tasks)


def _get(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _pipelines(project: Project) -> list[str]:
    written = [
        f"{path}: {len(names)} steps, {names[0]} to {names[-1]}" for path, names in _stages(project) if len(names) > 1
    ]
    return [*written, *project.importing("kfp.dsl", "airflow", "prefect", "dagster", "zenml", "metaflow", "luigi")]


def _steps(project: Project, pattern: str) -> list[str]:
    return [f"{path}: step {name}" for path, names in _stages(project) for name in names if re.search(pattern, name)]


def _data_checks(project: Project) -> list[str]:
    libraries = project.importing(
        "tidegate.validate.contract", "pandera", "great_expectations", "tensorflow_data_validation"
    )
    return [*libraries, *_steps(project, r"^validate$|(valid|check).*data|data.*(valid|check)")]


def _model_checks(project: Project) -> list[str]:
    return _steps(project, r"evaluat|(valid|check|test|compare).*model|model.*(valid|check|test)")


def _data_versions(project: Project) -> list[str]:
    tracked = [f"{path}: data by content hash" for path in project.matching("dvc.lock", "*.dvc")]
    return [*tracked, *_steps(project, "^version$"), *project.importing("lakefs", "deltalake", "pyiceberg")]


def _features(project: Project) -> list[str]:
    stores = [f"{path}: a Feast repo" for path in project.matching("feature_store.yaml")]
    return [*stores, *project.importing("feast", "hopsworks", "tecton")]


def _metadata(project: Project) -> list[str]:
    return [*project.importing("mlflow", "wandb", "neptune", "clearml", "ml_metadata"), *_steps(project, "^register$")]


def _tidegate_models(project: Project) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """(path, spec) of every Model file that is valid."""
    from tidegate.spec import parse_model

    for path in project.yaml_files:
        for document in project.documents(path):
            if isinstance(document, dict) and document.get("kind") == "Model" and "tidegate" in str(document):
                try:
                    parse_model(document, path)
                except TidegateError:
                    continue
                yield path, document["spec"]


def _triggers(project: Project) -> list[str]:
    kinds = ("schedule", "volume", "performance", "drift")
    found = []
    for path, spec in _tidegate_models(project):
        named = [kind for kind in kinds if kind in spec.get("triggers", {})]
        found += [f"{path}: triggers {', '.join(named)}"] if named else []
    for path in project.yaml_files:
        for document in project.documents(path):
            if _get(document, "kind") == "CronJob":
                found.append(f"{path}: a CronJob")
    for path, events, runs in _workflows(project):
        if "schedule" in events and any(re.search(r"dvc repro|kfp|train|pipeline", run) for run in runs):
            found.append(f"{path}: on schedule")
    return found


def _workflows(project: Project) -> Iterator[tuple[str, set[str], list[str]]]:
    """(path, events, commands) of every GitHub workflow."""
    for path in project.files:
        if re.fullmatch(r"\.github/workflows/[^/]+\.ya?ml", path):
            for document in project.documents(path):
                events = document.get("on", document.get(True)) if isinstance(document, dict) else None
                names = {events} if isinstance(events, str) else set(events or ())
                jobs = _get(document, "jobs") or {}
                steps = (step for job in jobs.values() for step in (_get(job, "steps") or ()))
                yield path, names, [str(step["run"]) for step in steps if isinstance(step, dict) and "run" in step]


def _ci(project: Project, pattern: str) -> list[str]:
    """Workflows that run on pushes, and of whose commands one matches."""
    found = _running(project, pattern, {"push", "pull_request"})
    others = [
        path for path in project.matching(".gitlab-ci.yml", "Jenkinsfile") if re.search(pattern, project.text(path))
    ]
    return [*found, *others]


def _running(project: Project, pattern: str, when: set[str] | None = None) -> list[str]:
    """``path: runs COMMAND`` of workflows on one of these events, where it, its make target or their script matches."""
    recipes, found = _recipes(project.text("Makefile")), list[str]()
    for path, events, runs in _workflows(project):
        for run in runs if when is None or events & when else ():
            told = "\n".join([run, *(recipes.get(target, "") for target in re.findall(r"\bmake ([a-z-]+)", run))])
            words = re.findall(r"(?<![\w/])\.?\w[\w.-]*/[\w./-]+", told)
            scripts = (word for word in words if ".." not in word and not is_test(word))
            if any(re.search(pattern, one) for one in (told, *map(project.text, scripts))):
                found.append(f"{path}: runs {run.strip().splitlines()[0]}")
    return list(dict.fromkeys(found))


def _recipes(makefile: str) -> dict[str, str]:
    found = re.findall(r"^([a-z-]+):(?!=)[^\n]*\n((?:\t[^\n]*\n?)+)", makefile, re.MULTILINE)
    return dict(found)


def _tests(project: Project) -> list[str]:
    tests = [
        path for path in project.files if is_test(path) and path.endswith(".py") and "def test_" in project.text(path)
    ]
    return [f"{len(tests)} files of tests, {tests[0]} first"] if tests else []


def _source_control(project: Project) -> list[str]:
    heads = project.root / ".git"
    return [".git: a repository"] if heads.exists() else []


def _images(project: Project) -> list[str]:
    return [
        f"{path}: components as an image" for path in project.matching("Dockerfile", "Containerfile", "bentofile.yaml")
    ]


def _delivered(project: Project) -> list[str]:
    applied = [f"{path}: kubectl apply -k" for path in project.matching("kustomization.yaml") if "overlays" in path]
    charts = [f"{path}: a Helm chart" for path in project.matching("Chart.yaml")]
    return [*_running(project, DELIVERING), *applied, *charts]


def _registry(project: Project) -> list[str]:
    used = [f"{path}: step register" for path, names in _stages(project) if "register" in names]
    return [*used, *project.importing("mlflow.register_model", "mlflow.MlflowClient", "mlflow.tracking")]


def _released(project: Project) -> list[str]:
    found = []
    for path, spec in _tidegate_models(project):
        stages = [next(iter(stage)) for stage in spec["release"]["stages"]]
        found.append(f"{path}: released by {', '.join(stages)}, judged on live traffic")
    for path in project.yaml_files:
        for document in project.documents(path):
            if _get(document, "kind") in ("Rollout", "Canary") or _get(
                document, "spec", "predictor", "canaryTrafficPercent"
            ):
                found.append(f"{path}: {document['kind']}")
    return found


def _monitored(project: Project) -> list[str]:
    found = [
        f"{path}: watches {', '.join(sorted({'performance', 'drift'} & set(spec.get('triggers', {}))))}"
        for path, spec in _tidegate_models(project)
        if {"performance", "drift"} & set(spec.get("triggers", {}))
    ]
    return [*found, *project.importing("evidently", "nannyml", "alibi_detect", "whylogs")]


def _undone(project: Project) -> list[str]:
    found = [f"{path}: watch {spec['release'].get('watch', '7d')} after a promotion, a regression rolls back"
             for path, spec in _tidegate_models(project)]  # fmt: skip
    return [*found, *_released(project)[len(found) :]]


def _copy(*paths: str) -> str:
    """The command that takes files from a clone of Tidegate: this one, where it is one."""
    source = clone() if (clone() / ".github").is_dir() else Path("CLONE")
    return f"cp -r {' '.join(str(source / path) for path in paths)} ."


CODE = r"\bpytest\b(?! tests/(data|model|tree|golden))|\b(tox|nox)\b"
DATA_OR_MODEL = r"tests/(data|model)\b|validate[- ](data|model)|tidegate (validate|evaluate)"
DELIVERING = r"tidegate deploy|kubectl apply|helm (install|upgrade)|kfp pipeline (create|upload)|bentoml deploy"
"""In the commands of a workflow."""

ITEMS: tuple[Item, ...] = (
    Item(0, "model", "something trains a model", _models, NEW),
    Item(1, "pipeline", "training is a pipeline of steps, not a person", _pipelines, NEW),
    Item(1, "data validation", "rows are checked before a model learns from them", _data_checks, NEW),
    Item(1, "model validation", "a model is checked before it may serve", _model_checks, NEW),
    Item(1, "data versions", "what a model learned from can be had again", _data_versions, NEW),
    Item(1, "features", "training and serving take features from one place", _features, NEW),
    Item(1, "metadata", "runs, parameters and metrics are recorded", _metadata, NEW),
    Item(1, "trigger", "training starts by itself: by time, volume, performance or drift", _triggers, NEW),
    Item(2, "source control", "code has a history", _source_control, "git init"),
    Item(2, "tests", "code has tests", _tests, NEW),
    Item(2, "CI of code", "each push runs the tests", lambda one: _ci(one, CODE),
         _copy(".github", "Makefile", ".ci")),
    Item(2, "CI of data and models", "each push checks data and a model, too",
         lambda one: _ci(one, DATA_OR_MODEL),
         _copy(".github", "Makefile", ".ci")),
    Item(2, "build", "components are built, not copied", _images, _copy("components")),
    Item(2, "delivery", "pipeline and services are installed from files", _delivered, _copy("k8s")),
    Item(2, "model registry", "versions are registered", _registry, NEW),
    Item(2, "model delivery", "a version proves itself on live traffic before it serves", _released, NEW),
    Item(2, "monitoring", "what serves is watched", _monitored, NEW),
    Item(2, "rollback", "a version that gets worse gives its place back", _undone, NEW),
)  # fmt: skip
"""What the levels need, level by level."""
