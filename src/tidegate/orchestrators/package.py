"""What a compiled KFP package says of itself, read without kfp: its steps, their artifacts, its parameters. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tidegate.errors import UserError

TAKES = "a compiled KFP package (IR YAML with root.dag)"


@dataclass(frozen=True)
class PackageStep:
    """One step: for each artifact in, the step and artifact it comes from; the artifacts it gives."""

    inputs: Mapping[str, tuple[str, str]]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Package:
    """A compiled package: `required` and `optional` parameters, steps by name."""

    required: frozenset[str]
    optional: frozenset[str]
    steps: Mapping[str, PackageStep]

    def check(self, arguments: Mapping[str, str], where: str) -> None:
        """UserError, naming it, when a parameter is unknown or a required one is missing."""
        known = ", ".join(sorted(self.required | self.optional))
        for name, value in arguments.items():
            if name not in self.required | self.optional:
                raise UserError(f"{where}: {name}", value, f"one of its parameters: {known}")
        for name in sorted(self.required - set(arguments)):
            raise UserError(f"{where}: {name}", None, "a value; the parameter is required")


def parse_package(document: Any, where: str) -> Package:
    """Read a package's first YAML document; UserError when it is none."""
    try:
        root = document["root"]
        parameters = root.get("inputDefinitions", {}).get("parameters", {})
        optional = {name for name, found in parameters.items() if "defaultValue" in found or found.get("isOptional")}
        components = document["components"]
        steps = {
            name: _step(task, components[task["componentRef"]["name"]]) for name, task in root["dag"]["tasks"].items()
        }
    except (KeyError, TypeError, AttributeError):
        raise UserError(where, type(document).__name__, TAKES) from None
    return Package(frozenset(parameters) - optional, frozenset(optional), steps)


def _step(task: Mapping[str, Any], component: Mapping[str, Any]) -> PackageStep:
    inputs = {
        name: (found["taskOutputArtifact"]["producerTask"], found["taskOutputArtifact"]["outputArtifactKey"])
        for name, found in task.get("inputs", {}).get("artifacts", {}).items()
    }
    return PackageStep(inputs, tuple(component.get("outputDefinitions", {}).get("artifacts", {})))
