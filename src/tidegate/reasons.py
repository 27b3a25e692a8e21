"""Every reason a decision can give, with its message. A reason is stored by name and shown by message."""

from __future__ import annotations

REASONS: dict[str, str] = {
    # release
    "proved_not_worse": "proved not worse than the champion by more than the margin",
    "proved_worse": "proved worse than the champion",
    "no_evidence": "no matured evidence yet",
    "too_little_evidence": "the evidence does not decide yet",
    "block_check": "the bound decides, the days do not agree yet",
    "min_duration": "proved, but the least duration has not passed",
    "sample_ratio": "the split that was seen is not the split that was asked for",
    "carried": "the margin is already spent by earlier promotions",
    "deadline": "no verdict by the deadline; the champion stays",
    "not_ready": "the challenger did not become ready",
    "superseded": "a newer candidate took its place",
    "first_version": "nothing to compare with: the first version serves at once",
    "quarantined": "this digest was aborted before",
    "by_person": "decided by a named person",
}
