"""What a `release` block may ask for: refused by name before a release starts, better than half-way."""

from __future__ import annotations

import re

from tidegate.errors import UserError
from tidegate.release.policy import policy_of
from tidegate.release.stages import weights_of
from tidegate.spec import AbStage, ReleaseSpec, Stage

MOST_ARMS = 7
"""A rule for each arm or region, and one for the rest, twice: an HTTPRoute takes 16."""

_COOKIE = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")


def check_spec(spec: ReleaseSpec) -> None:
    """Refuse, by UserError, what a release cannot do."""
    policy_of(spec)
    for number, stage in enumerate(spec.stages):
        _check_stage(f"release.stages.{number}.{stage.kind}", stage)


def _check_stage(where: str, stage: Stage) -> None:
    if stage.ab:
        _check_arms(where, stage.ab)
    if stage.canary and stage.canary.regions:
        order = stage.canary.regions.order
        if not 0 < len(set(order)) == len(order) <= MOST_ARMS or not all(order):
            raise UserError(f"{where}.regions.order", list(order), f"1 to {MOST_ARMS} regions, each named once")
    for weight in weights_of(stage):
        if not 0 < weight < 1:
            raise UserError(where, f"{weight:.0%}", "a weight between 0% and 100%; 100% is what a promotion gives")


def _check_arms(where: str, ab: AbStage) -> None:
    if "champion" not in ab.arms or not 2 <= len(ab.arms) <= MOST_ARMS:
        raise UserError(f"{where}.arms", list(ab.arms), f"the arm champion and 1 to {MOST_ARMS - 1} more")
    if abs(sum(ab.arms.values()) - 1) > 1e-9:
        raise UserError(f"{where}.arms", f"{sum(ab.arms.values()):.0%}", "arms that sum to 100%")
    if ab.sticky and not _COOKIE.fullmatch(ab.sticky.cookie):
        raise UserError(f"{where}.sticky.cookie", ab.sticky.cookie, "the name of a cookie, without spaces or =")
