"""Version rules: when a minor (v1.1, stateful) may follow its parent, and what the next version is called."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Parent:
    """What the journal says about the version that would be trained on: the current champion."""

    version: str
    digest: str
    feature_schema_digest: str
    architecture_digest: str
    train_until: float
    """Event time, seconds: the newest prediction time of its training rows."""
    healthy: bool = True
    """False when its digest is quarantined or its release was aborted."""


@dataclass(frozen=True)
class Decision:
    """Whether a minor is allowed; `reason` is empty when it is, else one clause for the journal and the report."""

    allowed: bool
    reason: str = ""


def minor_allowed(
    parent: Parent | None, feature_schema_digest: str, architecture_digest: str, max_depth: int
) -> Decision:
    """The rules, in the order in which they are asked; the first that forbids gives the reason."""
    if parent is None:
        return Decision(False, "there is no parent: the first version is trained from scratch")
    if not parent.healthy:
        return Decision(False, f"parent {parent.version} was aborted or quarantined")
    if parent.feature_schema_digest != feature_schema_digest:
        return Decision(False, f"the feature schema changed since {parent.version}")
    if parent.architecture_digest != architecture_digest:
        return Decision(False, f"the architecture changed since {parent.version}")
    if parse_version(parent.version)[1] >= max_depth:
        return Decision(False, f"{parent.version} has {max_depth} generations already, the deepest allowed")
    return Decision(True)


def parse_version(name: str) -> tuple[int, int]:
    """``v2`` -> (2, 0), ``v2.3`` -> (2, 3); ValueError on anything else."""
    found = re.fullmatch(r"v([1-9]\d*)(?:\.([1-9]\d*))?", name)
    if not found:
        raise ValueError(f"{name!r} is no version name such as v1 or v1.2")
    return int(found.group(1)), int(found.group(2) or 0)


def format_version(major: int, minor: int) -> str:
    """The inverse of `parse_version`."""
    return f"v{major}.{minor}" if minor else f"v{major}"


def next_version(taken: Iterable[str], parent: str | None) -> str:
    """The name after `taken`: with a parent the next free minor of its major, else the next major.

    Minors of one major count on over its branches: a second child of v1 is v1.2 where v1.1 is taken.
    """
    versions = [parse_version(name) for name in taken]
    if parent is None:
        return format_version(max((major for major, _ in versions), default=0) + 1, 0)
    major, minor = parse_version(parent)
    return format_version(major, max([minor, *(m for found, m in versions if found == major)]) + 1)
