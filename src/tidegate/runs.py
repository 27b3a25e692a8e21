"""Runs of the continuous-training pipeline: their arguments, their submission, how they ended.

The controller and ``tidegate run`` start runs through the same functions, so that a run by hand is a run like any.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tidegate.controller.announced import check_events, run_settings
from tidegate.controller.batch_schedule import check_batch
from tidegate.controller.degrade import check_rollback
from tidegate.controller.reconcile import Ended, Ledger, finish_run
from tidegate.controller.slices import check_slices
from tidegate.controller.webhook import check_alerts
from tidegate.errors import Conflict, UserError
from tidegate.journal import views
from tidegate.journal.events import Draft
from tidegate.journal.fold import ModelState, fold
from tidegate.journal.store import Journal, open_journal
from tidegate.orchestrators.base import Orchestrator, RunStatus
from tidegate.orchestrators.choose import orchestrator_of
from tidegate.orchestrators.package import parse_package
from tidegate.reasons import GATE_REASONS
from tidegate.register.decide import ENDS
from tidegate.release.check import check_spec
from tidegate.spec import GateSpec, Model, read_yaml
from tidegate.state import prepare
from tidegate.steps import read_records
from tidegate.train.families import family
from tidegate.train.settings import ParentFacts, RunSettings
from tidegate.trigger.policy import URGENT, check_triggers
from tidegate.workload import load_workload


@dataclass(frozen=True)
class Result:
    """What ``tidegate run`` prints. `steps` holds (name, seconds, cached).

    `service_seconds`: what asking the real service took of the evaluate step; None where it was not asked anew.
    """

    run: str
    verdict: str
    version: str
    digest: str
    reason: str
    seconds: float
    steps: tuple[tuple[str, float, bool], ...]
    service_seconds: float | None = None

    def to_json(self) -> dict[str, Any]:
        """The result as a JSON document."""
        steps = [{"step": name, "seconds": round(spent, 3), "cached": cached} for name, spent, cached in self.steps]
        return {**asdict(self), "steps": steps}

    def to_text(self) -> str:
        """The result for the terminal."""
        lines = [self._line(*step) for step in self.steps]
        version = f" {self.version} ({self.digest[:19]}…)" if self.version else ""
        return "\n".join([f"run {self.run}: {self.verdict}{version}, {self.seconds:.1f} s", *lines, f"  {self.reason}"])

    def _line(self, name: str, spent: float, cached: bool) -> str:
        asked = name == "evaluate" and self.service_seconds is not None
        more = "  cached" if cached else f"  {self.service_seconds:.2f} s of it for the service" if asked else ""
        return f"  {name:9s} {spent:6.2f} s{more}"


def with_mode(model: Model, mode: str | None) -> Model:
    """The model with another training mode; UserError when there is no such mode."""
    if mode is None:
        return model
    if mode not in ("auto", "stateless", "stateful"):
        raise UserError("--mode", mode, "auto, stateless or stateful")
    training = model.spec.training.model_copy(update={"mode": mode})
    return model.model_copy(update={"spec": model.spec.model_copy(update={"training": training})})


def check(model: Model) -> None:
    """Ask, before anything is written, for what a Model file only names or a later step would refuse.

    Raises UserError: the workload does not import, the package is none, a cron does not parse, a release cannot be, a
    family is unknown.
    """
    load_workload(model.spec.workload)
    check_retention(model)
    package = model.spec.pipeline.package
    parse_package(read_yaml(Path(package)), package)
    check_triggers(model.spec.triggers)
    check_batch(model.spec.batch)
    check_spec(model.spec.release)
    check_slices(model)
    check_events(model.spec)
    check_rollback(model.spec)
    check_alerts(model.spec)
    for name in model.spec.training.families:
        family(name)


def check_retention(model: Model) -> None:
    """UserError where earlier rows are to be replayed and none are kept."""
    training = model.spec.training
    if not training.retain and training.replay > 0:
        takes = "0 where training.retain is false: no earlier rows are kept to replay"
        raise UserError("spec.training.replay", training.replay, takes)


def arguments(
    model: Model, state: ModelState, folder: Path, until: float, run: str, causes: tuple[str, ...], mode: str = "auto"
) -> dict[str, str]:
    """The pipeline's arguments: what had arrived by event time `until` is used, against today's champion.

    `mode` is what the causes want; a Model file that names a training mode of its own is obeyed before it,
    and an announced event with a gate window before both.
    """
    usual = {"label_deadline": model.spec.release.label_deadline, **_training(model, state, mode)}
    settings = RunSettings(
        **{**usual, **run_settings(model.spec, until)}, gate=model.spec.gate, parent=_parent(state, model.spec.gate)
    )
    return {
        "workload": model.spec.workload,
        "model": model.name,
        "until": views.iso(until),
        "state": str(folder),
        "run": run,
        "cause": ",".join(causes),
        "settings": settings.text(),
        "champion": state.champion.digest if state.champion else "",
    }


def _training(model: Model, state: ModelState, mode: str) -> dict[str, Any]:
    training, drift = model.spec.training, model.spec.triggers.drift
    if training.mode != "auto" or state.champion is None or mode not in ("stateful", "recent"):
        return {"training": training}
    if mode == "recent":
        return {"training": training.model_copy(update={"mode": "stateless"}), "recent": drift and drift.recent}
    return {"training": training.model_copy(update={"mode": mode})}


def _parent(state: ModelState, gate: GateSpec) -> ParentFacts | None:
    """The champion as the version rules need it; None before there is one."""
    if state.champion is None:
        return None
    data = state.versions[state.champion.digest]
    return ParentFacts(
        version=state.champion.version,
        digest=state.champion.digest,
        feature_schema_digest=data["feature_schema_digest"],
        architecture_digest=data["architecture_digest"],
        train_until=data["train_until"],
        healthy=state.champion.digest not in state.quarantined,
        train_cpu_seconds=_train_seconds(data) if any(o.metric == "training_cost" for o in gate.objectives) else None,
    )


def _train_seconds(data: Mapping[str, Any]) -> float | None:
    """CPU-seconds of the train step that made a version; None where it came from the cache or was not recorded."""
    cost = data.get("cost", {}).get("train", {})
    return None if cost.get("cached", True) else float(cost["cpu_seconds"])


def ended(orchestrator: Orchestrator, journal: Journal, model: str, run: str) -> Ended | None:
    """How a run ended; None while it runs."""
    status = orchestrator.status(run)
    if status.state == "running":
        return None
    outcome = outcome_of(journal, model, run)
    rows = int(outcome.get("rows", 0)) if outcome else 0
    return Ended(run, status.state == "succeeded" and outcome is not None, rows, status.steps, status.error)


def outcome_of(journal: Journal, model: str, run: str) -> dict[str, Any] | None:
    """What the run's last step wrote to the journal; None when it did not get there."""
    for event in reversed(journal.read(model)):
        if event.kind in ENDS and event.data["run"] == run:
            return {"kind": event.kind, **event.data}
    return None


def run_once(
    model: Model, folder: Path, until: str | None, orchestrator: str, quiet: bool, cause: str = "manual"
) -> Result:
    """One run by hand or for a change of the code, waited for; written to the journal like any other."""
    if cause not in URGENT:
        raise UserError("--cause", cause, "manual or code")
    moment = views.seconds(until, "--until") if until else time.time()
    runner = orchestrator_of(model, folder, orchestrator)
    check(model)
    folder = prepare(folder)
    journal = open_journal(folder, create=True)
    started, run = time.monotonic(), _announce(model, journal, folder, moment, cause)
    runner.submit(Path(model.spec.pipeline.package), run.arguments, run.name)
    with _progress(quiet) as show:
        while (status := runner.status(run.name)).state == "running":
            show(status)
            time.sleep(0.1)
    _close(model, journal, runner, run.name, moment)
    asked = _asked(folder, run.name)
    return replace(_result(journal, model, status, time.monotonic() - started), service_seconds=asked)


def schedule(model: Model, folder: Path, orchestrator: str) -> str:
    """Have Kubeflow run the Model file's schedule by itself, instead of the controller; returns the recurring run's id.

    The champion and its facts are today's until this is called again. Raises UserError without a schedule, or where
    the orchestrator is another.
    """
    from tidegate.orchestrators.kubeflow import KubeflowOrchestrator

    runner, trigger = orchestrator_of(model, folder, orchestrator), model.spec.triggers.schedule
    if not isinstance(runner, KubeflowOrchestrator):
        raise UserError("--recurring", f"orchestrator {orchestrator}", "the orchestrator kubeflow; others have none")
    if trigger is None:
        raise UserError("spec.triggers.schedule", None, "a cron, which the recurring run gets")
    check(model)
    journal = open_journal(prepare(folder), create=True)
    state = fold(journal.read(model.name), ModelState(model=model.name))
    passed = arguments(model, state, folder, time.time(), model.name, ("schedule",))
    return runner.schedule(Path(model.spec.pipeline.package), passed, trigger.cron, model.name)


@dataclass(frozen=True)
class _Announced:
    name: str
    arguments: dict[str, str]


def _announce(model: Model, journal: Journal, folder: Path, moment: float, cause: str) -> _Announced:
    """Write trigger.started; the run's name is its place in the journal."""
    while True:
        state = fold(journal.read(model.name), ModelState(model=model.name))
        name = f"{model.name}-{state.seq + 1}"
        passed = arguments(model, state, folder, moment, name, (cause,))
        data = {"run": name, "causes": [cause], "by": "person", "arguments": passed}
        try:
            journal.append(model.name, [Draft("trigger.started", max(moment, state.time), data)], state.seq)
        except Conflict:
            continue
        return _Announced(name, passed)


def _close(model: Model, journal: Journal, runner: Orchestrator, run: str, moment: float) -> None:
    """Write trigger.finished, unless a controller did it meanwhile."""
    found = ended(runner, journal, model.name, run)
    while found:
        state = fold(journal.read(model.name), ModelState(model=model.name))
        ledger = Ledger(state, model.name)
        finish_run(ledger, found, max(moment, state.time))
        try:
            journal.append(model.name, ledger.drafts, state.seq)
        except Conflict:
            continue
        return


def _result(journal: Journal, model: Model, status: RunStatus, spent: float) -> Result:
    outcome = outcome_of(journal, model.name, status.run)
    if status.state == "failed" or outcome is None:
        raise UserError(f"run {status.run}", status.error or "no outcome", "a pipeline that ends; see its log.txt")
    verdict = "refused" if outcome["kind"].endswith("refused") else "passed"
    version, digest = str(outcome.get("version", "")), str(outcome.get("digest", ""))
    reason = outcome["gate"]["reason"] if "gate" in outcome else outcome.get("reason", "")
    told = "; ".join(part for part in (GATE_REASONS.get(reason, reason), outcome.get("mode_reason", "")) if part)
    return Result(status.run, verdict, version, digest, told, spent, status.steps)


def _asked(folder: Path, run: str) -> float | None:
    """Seconds that the evaluate step waited for the service; None where its answer was an earlier run's."""
    record = next((one for one in read_records(folder, run) if one.step == "evaluate" and not one.cached), None)
    return record.result.get("service_seconds") if record else None


@contextmanager
def _progress(quiet: bool) -> Iterator[Any]:
    """Show which step is at work, on stderr; nothing when `quiet` or not a terminal's business."""
    if quiet:
        yield lambda status: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("starting", total=7)

        def show(status: RunStatus) -> None:
            done = len(status.steps)
            progress.update(task, completed=done, description=f"after {status.steps[-1][0]}" if done else "ingest")

        yield show
