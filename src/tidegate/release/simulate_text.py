"""A forecast in words, and what a person assumes for it as numbers."""

from __future__ import annotations

from collections.abc import Iterable

from tidegate.errors import UserError
from tidegate.release.simulate import Forecast, Proof


def named(option: str, words: Iterable[str]) -> dict[str, float]:
    """``loss=0.002`` and ``errors=0.5%`` as numbers by name; UserError names the word that is neither."""
    found = {}
    for word in words:
        name, _, value = word.partition("=")
        try:
            found[name] = float(value.removesuffix("%")) / (100 if value.endswith("%") else 1)
        except ValueError:
            raise UserError(option, word, "NAME=NUMBER or NAME=NUMBER%, for example errors=0.5%") from None
    return found


def lines(found: Forecast) -> list[str]:
    """The forecast for people: a line a stage, a line a metric that is proved there."""
    told = [f"at {found.per_day:,.0f} requests a day"]
    for passage in found.stages:
        length = "a person's word" if passage.stage == "approval" else _count(passage.requests)
        until = "" if passage.days is None else f", days {passage.starts:.0f} to {passage.starts + passage.days:.0f}"
        told.append(f"{passage.stage:10s} {length}{until}")
        told += [_line(proof) for proof in passage.proofs]
    return [*told, "no promotion" if found.days is None else f"promoted about day {found.days:.0f}"]


def _line(proof: Proof) -> str:
    worse = "" if proof.aborts_after is None else f"; proved worse after {_count(proof.aborts_after)}"
    return (
        f"  {proof.metric:9s} {proof.effect:+.4g}, margin {proof.margin:.4g}: proved after {_count(proof.requests)} "
        f"(four in five: {_count(proof.requests_80)}), by the deadline with chance {proof.power:.2f}{worse}; "
        f"by then a worsening of {proof.detects:.2g} is seen"
    )


def _count(requests: int | None) -> str:
    return "never" if requests is None else f"{requests:,} requests"
