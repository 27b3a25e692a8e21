"""``tidegate register lineage``: from an answered request, or a version, to everything behind it. Does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tidegate.errors import PlatformError, UserError
from tidegate.journal import views
from tidegate.journal.events import Event
from tidegate.journal.fold import fold
from tidegate.journal.store import open_journal, verify
from tidegate.reasons import GATE_REASONS, REASONS
from tidegate.register import cost, registry
from tidegate.register.answered import Answer, Answered, Tally, answered
from tidegate.register.lineage import Json, find_version, lineage
from tidegate.train.model_file import check, folder_name
from tidegate.version.history import versions

TAKES = "a version (v2, MODEL@v2, 8 digits of its digest) or the id of a request that the prediction log has"


def trace(state: Path, asked: str, model: str | None = None) -> Json:
    """The lineage of a version or of an answered request, as one JSON document; times are ISO 8601.

    model: only this one's journal is read; None: every model's.
    Raises UserError when neither is known, TamperedJournal when the journal is not what was written.
    """
    histories = _histories(state, model)
    version = find_version(histories, asked)
    log = answered(state / "observations" / "predictions", None if version else asked)
    name, digest = version or _of_request(histories, log.rows, asked)
    document = lineage(histories[name], digest)
    _add_files(document, state)
    _add_run(document, state, histories[name])
    document["answered"] = _tally(log.tallies.get(digest, Tally()))
    document["request"] = None if version else _request(log, digest, asked)
    return _in_iso(document)


def _histories(state: Path, model: str | None) -> dict[str, list[Event]]:
    journal = open_journal(state)
    try:
        found = {name: journal.read(name) for name in ([model] if model else journal.models())}
    finally:
        journal.close()
    for events in found.values():
        verify(events)
    return found


def _of_request(histories: Mapping[str, Sequence[Event]], rows: Sequence[Answer], asked: str) -> tuple[str, str]:
    """(model, digest) of the version whose answer was sent out; where only copies are known, of the first of them."""
    if not rows:
        raise UserError("version or request", asked, TAKES)
    sent = next((row for row in rows if not row.copied), rows[0])
    for model, events in histories.items():
        if sent.digest in fold(events).versions:
            return model, sent.digest
    raise UserError(f"request {asked}", f"an answer of {sent.version}", "one by a version that the journal knows")


def _add_files(document: Json, state: Path) -> None:
    """Whether the version's files, and the data behind it, are still what was registered."""
    folder = state / "models" / folder_name(document["digest"])
    try:
        check(folder, document["digest"])
        document["files"] = "as registered"
    except PlatformError as error:
        document["files"] = str(error)
    known = [one.summary() for one in versions(state) if one.version == document["data_version"]]
    document["data"] = {"version": document["data_version"], **(known[0] if known else {})}


def _add_run(document: Json, state: Path, events: Sequence[Event]) -> None:
    run, data = document["run"]["run"], fold(events).versions[document["digest"]]
    document["run"]["mlflow_run_id"] = registry.mirrored(state, "register.candidate", data)
    document["cost"] = cost.by_run(events, views.recorded(state, events))[run]
    document["cost_total"] = cost.total(document["cost"].values())


def _tally(tally: Tally) -> Json:
    newest = tally.newest and {"request_id": tally.newest.request_id, "time": tally.newest.time}
    return {"rows": tally.rows, "copies": tally.copies, "newest": newest}


def _request(log: Answered, digest: str, asked: str) -> Json:
    sent = [row for row in log.rows if row.digest == digest]
    rows = [{"row": row.request_id, "score": row.score} for row in sent]
    copies = sorted({row.version for row in log.rows if row.copied})
    return {"id": asked, "time": sent[0].time, "rows": rows, "copied_to": copies}


def _in_iso(document: Json) -> Json:
    """The document with its times as ISO 8601."""
    timed = [
        document,
        *document["champion"],
        *document["releases"],
        document["request"],
        document["answered"]["newest"],
    ]
    for part in timed:
        for key in ("registered", "since", "until", "opened", "time"):
            if part and isinstance(part.get(key), float):
                part[key] = views.iso(part[key])
    return document


def text(document: Json) -> str:
    """The document as a small tree."""
    lines = [f"{name:10s} {told}" for name, told in _lines(document) if told]
    head = f"{document['model']} {document['version']}  {document['digest']}  files {document['files']}"
    tree = [f"├ {line}" for line in lines[:-1]] + [f"└ {line}" for line in lines[-1:]]
    if (request := document["request"]) is None:
        return "\n".join([head, *tree])
    scores = ", ".join("failed" if row["score"] is None else f"{row['score']:.4f}" for row in request["rows"][:5])
    copied = f", copied to {', '.join(request['copied_to'])}" if request["copied_to"] else ""
    asked = f"request {request['id']}  {request['time']}, {len(request['rows'])} row(s), score {scores}{copied}"
    return "\n".join([asked, f"└ {head}", *(f"  {line}" for line in tree)])


def _lines(document: Json) -> list[tuple[str, str]]:
    run, gate, data = document["run"], document["gate"], document["data"]
    mlflow = f", MLflow run {run['mlflow_run_id']}" if run["mlflow_run_id"] else ""
    service = f"feature service {document['feature_service'] or 'not recorded'}"
    seeds = ", ".join(f"seed {name} {seed}" for name, seed in (document["seeds"] or {}).items())
    return [
        ("run", f"{run['run']} for {run['cause']}, data until {run['until']}, workload {run['workload']}{mlflow}"),
        ("code", _code(document["code"])),
        ("data", _data(data, document)),
        ("features", f"{service}, schema {document['feature_schema_digest'][:19]}…"),
        ("parameters", ", ".join([*(f"{k} {v}" for k, v in (document["params"] or {}).items()), seeds])),
        ("trained", f"{document['mode']}: {document['mode_reason']}"),
        ("parents", " <- ".join(f"{one['version']} (run {one['run']})" for one in document["parents"])),
        ("children", ", ".join(document["children"])),
        ("gate", f"{gate['verdict']}: {GATE_REASONS.get(gate['reason'], gate['reason'])}"),
        ("releases", "; ".join(_release(one) for one in document["releases"])),
        ("quarantine", REASONS.get(document["quarantined"], document["quarantined"] or "")),
        ("champion", "; ".join(f"{one['since']} to {one['until'] or 'now'}" for one in document["champion"])),
        ("cost", cost.line(document["cost_total"])),
        ("answered", _answered(document["answered"])),
    ]


def _code(code: Json | None) -> str:
    if code is None:
        return "not recorded"
    changed = " with changes that are not committed" if code["changed"] else ""
    return f"commit {code['commit'][:12]}{changed}" if code["commit"] else f"tidegate {code['tidegate']}, no commit"


def _data(data: Json, document: Json) -> str:
    if not document["retained"]:
        return f"version {data['version']}, {document['train_rows']} rows trained on, not retained"
    known = f", {data['rows']} rows in {data['files']} files, remote {data['remote']}" if "rows" in data else ""
    also = f", also of {', '.join(document['same_data'])}" if document["same_data"] else ""
    return f"version {data['version']}, {document['train_rows']} rows trained on{known}{also}"


def _release(release: Json) -> str:
    reason = REASONS.get(release["reason"], release["reason"])
    return f"{release['release']} against {release['against']} {release['state']}: {reason}"


def _answered(tally: Json) -> str:
    if not tally["rows"]:
        return "nothing yet"
    newest = f", newest {tally['newest']['request_id']} at {tally['newest']['time']}" if tally["newest"] else ""
    return f"{tally['rows'] - tally['copies']} rows sent out, {tally['copies']} copies{newest}"
