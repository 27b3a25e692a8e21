"""The seven steps as a table, and the one way to run each: refusal passed on, cache looked up, output written at once.

KFP components, DVC stages and `tidegate <step>` all end in `run_step`. The cache is content-addressed: a step's key is
the digest of its inputs' contents, its parameters, its code and the libraries that compute; never a name or a time. It
is looked up before anything heavy is imported. `ingest` is not cached (its input is the world; it keeps the bytes of
months that have passed), `register` is not cached (it is idempotent by content).
"""

from __future__ import annotations

import gc
import json
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, is_dataclass
from pathlib import Path
from typing import Any, Literal

from tidegate import stepcache
from tidegate.errors import UserError
from tidegate.scratch import scratch_of, without_rows

Verdict = Literal["passed", "refused"]
Paths = Mapping[str, Path]


@dataclass(frozen=True)
class Step:
    """One step: artifacts in and out, parameters that are part of its key, whether it needs the state folder.

    `decides`: its output holds a verdict. `code`: packages beside its own whose sources belong to its key.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parameters: tuple[str, ...]
    cached: bool = True
    decides: bool = False
    code: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("polars",)


_TRAINED = ("lightgbm", "numpy", "onnx", "onnxruntime", "polars")

STEPS: dict[str, Step] = {
    step.name: step
    for step in (
        Step("ingest", (), ("arrivals",), ("workload", "until"), cached=False),
        Step("validate", ("arrivals",), ("valid",), ("workload", "champion"), decides=True, code=("ingest",)),
        Step("version", ("valid",), ("data_version",), (), code=("ingest",), libraries=()),
        Step(
            "features",
            ("valid", "data_version"),
            ("features",),
            ("workload",),
            code=("ingest",),
            libraries=("feast", "polars"),
        ),
        Step(
            "train",
            ("features",),
            ("model",),
            ("workload", "until", "settings", "champion"),
            code=("evaluate",),
            libraries=_TRAINED,
        ),
        Step(
            "evaluate",
            ("model", "features"),
            ("gate",),
            ("workload", "until", "settings", "champion"),
            decides=True,
            code=("train",),
            libraries=_TRAINED,
        ),
        Step(
            "register",
            ("valid", "data_version", "model", "gate"),
            ("candidate",),
            ("name", "until", "run", "cause"),
            cached=False,
        ),
    )
}

_KEEP_ROWS = ("ingest", "version", "features")
"""Steps that keep rows under the state folder, or read them there."""

FILES = {
    "arrivals": "arrivals",
    "valid": "valid",
    "data_version": "data_version.json",
    "features": "features.parquet",
    "model": "model",
    "gate": "gate.json",
    "candidate": "candidate.json",
}
"""Where each artifact lies under the root of a DVC working folder."""


COST = "cost.json"
"""In the folder of a trained model, outside its digest: ``{"cpu_seconds"}`` of its training, kept when it is cached."""


@dataclass(frozen=True)
class StepRecord:
    """How one step went: wall and CPU seconds, peak memory in MiB, whether it came from the cache, its verdict.

    `bytes_in`, `bytes_out`: sizes of its artifacts; what ingest reads of the world is in none. CPU seconds are those of
    the step's process and of the processes that it waited for.
    """

    step: str
    seconds: float
    cpu_seconds: float
    peak_mib: float
    cached: bool
    verdict: Verdict
    result: Mapping[str, Any]
    bytes_in: int = 0
    bytes_out: int = 0


def run_step(
    name: str,
    parameters: Mapping[str, str],
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
    state: str,
    run: str = "",
    verdict: str = "passed",
) -> Verdict:
    """Run one step on paths and return the verdict that the next one gets.

    `verdict` is the last gate's: after ``refused`` a step only records it, and `register` journals it. `run` names the
    folder under ``STATE/runs`` that gets the step's record. Raises UserError on bad input, PlatformError on our fault.
    """
    record = _recorded(name, parameters, _paths(inputs), _paths(outputs), Path(state).resolve(), run, verdict)
    if run:
        _keep_record(Path(state).resolve() / "runs" / run / "steps" / f"{name}.json", record)
    return record.verdict


def _recorded(
    name: str, parameters: Mapping[str, str], ins: Paths, outs: Paths, folder: Path, run: str = "",
    verdict: str = "passed",
) -> StepRecord:  # fmt: skip
    began, cpu = time.perf_counter(), _cpu_seconds()
    step = STEPS[name]
    refused = verdict == "refused" or any(_is_refusal(path) for path in ins.values())
    if refused and name != "register":
        cached, result = False, _pass_on(step, outs)
    else:
        with _no_collections():
            cached, result = _run(step, dict(parameters), ins, outs, folder, scratch_of(folder, run))
    answer: Verdict = "refused" if refused else "refused" if result.get("verdict") == "refused" else "passed"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    spent, computed = time.perf_counter() - began, _cpu_seconds() - cpu
    return StepRecord(name, spent, computed, peak, cached, answer, result, _bytes_of(ins), _bytes_of(outs))


@contextmanager
def _no_collections() -> Iterator[None]:
    """Without the garbage collector: a step imports much, frees little and ends; it takes a third less time so."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def run_stage(name: str, params: Path, root: Path) -> StepRecord:
    """Run one step as a DVC stage: parameters from the YAML file `params`, artifacts under `root`."""
    from tidegate.spec import read_yaml

    step, settings = STEPS[name], read_yaml(params)
    if not isinstance(settings, dict):
        raise UserError(str(params), type(settings).__name__, "a mapping of parameters")
    if name == "register":  # a run is told by its outcome here: the same files again are the same run
        settings = {**settings, "run": "dvc-" + stepcache.content_digest(root / FILES["gate"])[:12]}
    wanted = {key: _parameter(settings, "model" if key == "name" else key, params) for key in step.parameters}
    ins, outs = ({key: root / FILES[key] for key in keys} for keys in (step.inputs, step.outputs))
    return _recorded(name, wanted, ins, outs, Path(_parameter(settings, "state", params)).resolve())


def read_records(state: Path, run: str) -> tuple[StepRecord, ...]:
    """The records of a run's steps so far, in the order of the steps."""
    folder = state / "runs" / run / "steps"
    found = [folder / f"{name}.json" for name in STEPS]
    return tuple(StepRecord(**json.loads(path.read_text())) for path in found if path.is_file())


def _run(
    step: Step, parameters: dict[str, str], ins: Paths, outs: Paths, state: Path, scratch: Path | None
) -> tuple[bool, dict[str, Any]]:
    if scratch is not None:  # nothing of the rows outlives the run: no cache, and what a step keeps is kept in there
        place = scratch / "state" if step.name in _KEEP_ROWS else state
        return False, without_rows(_compute(step, parameters, ins, outs, place))
    if not step.cached:
        return False, _compute(step, parameters, ins, outs, state)
    folders = [_feature_repo(parameters["workload"])] if step.name == "features" else []
    code = stepcache.code_digest(step.name, step.code, parameters, step.libraries, folders)
    key = stepcache.key(step.name, parameters, ins, code)
    entry = state / "cache" / step.name / key
    if (result := stepcache.fetch(entry, outs)) is not None:
        return True, result
    result = _compute(step, parameters, ins, outs, state)
    stepcache.store(entry, outs, result)
    return False, result


def _compute(step: Step, parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> dict[str, Any]:
    """Call the step's function on temporary outputs and move them into place when it has ended well."""
    with stepcache.fresh(outs) as made:
        found = _CALLS[step.name](parameters, ins, made, state)
    result = asdict(found) if is_dataclass(found) and not isinstance(found, type) else {}
    if step.decides and "verdict" not in result:
        result["verdict"] = found if isinstance(found, str) else "passed" if result.get("ok") else "refused"
    return json.loads(json.dumps(result, default=str))  # type: ignore[no-any-return]


def _ingest(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.ingest.step import ingest

    return ingest(parameters["workload"], parameters["until"], outs["arrivals"], state)


def _validate(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.validate.step import validate

    return validate(ins["arrivals"], parameters["workload"], outs["valid"], _last_good(parameters["champion"], state))


def _version(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.version.step import version

    return version(ins["valid"], state, outs["data_version"])


def _features(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.features.step import features

    return features(ins["valid"], parameters["workload"], ins["data_version"], state, outs["features"])


def _train(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.train.step import train

    champion = _champion(parameters["champion"], state)
    workload, until, settings = parameters["workload"], parameters["until"], parameters["settings"]
    began = _cpu_seconds()
    trained = train(ins["features"], workload, until, settings, champion, outs["model"])
    (outs["model"] / COST).write_text(json.dumps({"cpu_seconds": _cpu_seconds() - began}), encoding="utf-8")
    return trained


def _evaluate(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.evaluate.step import evaluate

    champion = _champion(parameters["champion"], state)
    workload, until, settings = parameters["workload"], parameters["until"], parameters["settings"]
    return evaluate(ins["model"], ins["features"], workload, until, settings, champion, outs["gate"])


def _register(parameters: dict[str, str], ins: Paths, outs: Paths, state: Path) -> object:
    from tidegate.register.step import register

    return register(ins, outs["candidate"], state, **parameters)


_CALLS: dict[str, Callable[[dict[str, str], Paths, Paths, Path], object]] = {
    "ingest": _ingest,
    "validate": _validate,
    "version": _version,
    "features": _features,
    "train": _train,
    "evaluate": _evaluate,
    "register": _register,
}


def _feature_repo(workload: str) -> Path:
    from tidegate.features.feast_repo import find_repo
    from tidegate.workload import load_workload

    return find_repo(load_workload(workload).feature_repo, workload.partition(":")[0])


def _champion(digest: str, state: Path) -> Path | None:
    from tidegate.train.model_file import folder_name

    return state / "models" / folder_name(digest) if digest else None


def _last_good(champion: str, state: Path) -> Path | None:
    """The profile of the data that the champion was trained on."""
    from tidegate.register.models import profile_path

    return profile_path(champion, state) if champion else None


def _paths(named: Mapping[str, str]) -> dict[str, Path]:
    return {name: Path(path) for name, path in named.items()}


def _parameter(settings: Mapping[str, Any], name: str, where: Path) -> str:
    if name not in settings:
        raise UserError(f"{where}: {name}", None, "a value; the parameter is required")
    found = settings[name]
    return found if isinstance(found, str) else json.dumps(found, sort_keys=True)


def _cpu_seconds() -> float:
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def _bytes_of(paths: Paths) -> int:
    """Bytes of all files of artifacts."""
    files = (file for path in paths.values() for file in (path.rglob("*") if path.is_dir() else (path,)))
    return sum(file.stat().st_size for file in files if file.is_file())


def _pass_on(step: Step, outs: Paths) -> dict[str, Any]:
    marker = json.dumps({"verdict": "refused", "step": step.name, "reason": "an earlier gate refused"})
    with stepcache.fresh(outs) as made:
        for path in made.values():
            path.write_text(marker, encoding="utf-8")
    return {}


def _is_refusal(path: Path) -> bool:
    """Whether an artifact says that a gate refused: a marker, a gate.json, or a report.json that is not ok."""
    report = path / "report.json" if path.is_dir() else path
    if not report.is_file() or report.stat().st_size > 2**24:
        return False
    with report.open("rb") as file:
        if file.read(1) != b"{":
            return False
    found = json.loads(report.read_text(encoding="utf-8"))
    return found.get("verdict") == "refused" or found.get("ok") is False


def _keep_record(path: Path, record: StepRecord) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    made = path.with_suffix(".tmp")
    made.write_text(json.dumps(asdict(record)), encoding="utf-8")
    made.replace(path)
