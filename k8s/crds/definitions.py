"""The two CustomResourceDefinitions as values, and their text."""

from __future__ import annotations

from typing import Any

import yaml

from k8s.crds.structural import Schema, seen, structural
from tidegate import spec
from tidegate.objects import ModelStatus, ReleaseSettings, ReleaseStatus

GROUP, VERSION = "tidegate.dev", "v1alpha1"
HEAD = "# Made from src/tidegate/spec.py and src/tidegate/objects.py by `python -m k8s.crds`; not edited by hand.\n"
_READY = '.status.conditions[?(@.type=="Ready")].status'
MODEL_COLUMNS = (
    ("Champion", "string", ".status.champion.version", "The version that serves.", 0),
    ("Traffic", "string", ".status.traffic.summary", "How requests go now.", 0),
    ("Release", "string", ".status.release", "The release that is open or in its watch.", 0),
    ("Ready", "string", _READY, "Whether a champion serves.", 0),
    ("Digest", "string", ".status.champion.digest", "The champion's digest.", 1),
    ("Last trigger", "string", ".status.lastTrigger.causes", "The newest cause to retrain.", 1),
    ("Next schedule", "string", ".status.nextSchedule", "When the schedule next asks for a run, in event time.", 1),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
)
RELEASE_COLUMNS = (
    ("Model", "string", ".spec.model", "Whose release it is.", 0),
    ("Champion", "string", ".spec.champion.version", "Who served when it opened.", 0),
    ("Challenger", "string", ".spec.challengers[0].version", "The newest challenger.", 0),
    ("Stage", "string", ".status.stage", "Where it is, or how it ended.", 0),
    ("Weight", "string", ".status.weight", "The challengers' share of the answers.", 0),
    ("Verdict", "string", ".status.verdict", "The judge's newest word.", 0),
    ("Reason", "string", ".status.reason", "Why.", 0),
    ("Requests", "integer", ".status.evidence.requests", "What was seen at this stage.", 1),
    ("Matured", "integer", ".status.evidence.matured", "What is older than the label deadline.", 1),
    ("Message", "string", ".status.message", "Why, with the figures.", 1),
    ("Age", "date", ".metadata.creationTimestamp", "", 0),
)  # fmt: skip


def definitions() -> dict[str, Schema]:
    """The definitions by file name."""
    metadata = structural(spec.Metadata)
    model = _object(spec.Model.__doc__ or "", structural(spec.ModelSpec), seen(ModelStatus))
    model["properties"]["metadata"]["properties"] = metadata["properties"]
    said = ReleaseSettings.__doc__ or ""
    release = _object(said, structural(ReleaseSettings), seen(ReleaseStatus))
    return {
        "models.yaml": _definition("Model", "models", "mdl", model, MODEL_COLUMNS),
        "releases.yaml": _definition("Release", "releases", "rel", release, RELEASE_COLUMNS),
    }


def text(definition: Schema) -> str:
    """One definition as the file that is committed."""
    return HEAD + yaml.dump(definition, sort_keys=False, width=120, allow_unicode=True, Dumper=_Plain)


def _object(said: str, wanted: Schema, status: Schema) -> Schema:
    return {
        "type": "object",
        "description": " ".join(said.split()),
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string", "description": f"{GROUP}/{VERSION}"},
            "kind": {"type": "string", "description": "The kind of this object."},
            "metadata": {"type": "object"},
            "spec": wanted,
            "status": status,
        },
    }


def _definition(kind: str, plural: str, short: str, schema: Schema, columns: tuple[tuple[Any, ...], ...]) -> Schema:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{plural}.{GROUP}",
            "labels": {"app.kubernetes.io/name": "tidegate", "app.kubernetes.io/part-of": "tidegate"},
        },
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["tidegate"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": [_column(*column) for column in columns],
                    "schema": {"openAPIV3Schema": schema},
                }
            ],
        },
    }


def _column(name: str, kind: str, path: str, said: str, priority: int) -> Schema:
    made = {"name": name, "type": kind, "jsonPath": path, "description": said, "priority": priority}
    return {key: value for key, value in made.items() if value not in ("", 0)}


class _Plain(yaml.SafeDumper):
    """Without anchors: each schema is written where it stands."""

    def ignore_aliases(self, data: Any) -> bool:
        return True
