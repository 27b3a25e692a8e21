"""A simulated gateway, two models and late labels, through the real fold and the real machine."""

import json
from dataclasses import dataclass, field

import numpy as np

from tidegate.release.fold import EvidenceFold
from tidegate.release.machine import open_release, step
from tidegate.release.policy import policy_of
from tidegate.release.rows import Labels, rows_of
from tidegate.release.stages import Release, Version
from tidegate.release.traffic import wanted

DAY = 86400.0
OLD, NEW = Version("v1", "sha256:a"), Version("v2", "sha256:b")


@dataclass
class World:
    """Traffic of a day-clustered world; the challenger's logit is off by `bias`, its copies share most of the noise."""

    bias: float = 0.0
    errors: tuple[float, float] = (0.002, 0.002)
    slow: tuple[float, float] = (0.01, 0.01)
    per_day: int = 900
    hours: float = 6.0
    bias_after_promotion: float | None = None
    events: list = field(default_factory=list)

    def run(self, spec, seed, days=60, crashes=0.0):
        """Until the release ends or `days` are over; `crashes`: chance a look of losing all but the journal."""
        rng, crash = np.random.default_rng(seed), np.random.default_rng(seed + 1)
        release, fold, log, sent = open_release("r", "m", OLD, (NEW,), spec, 0.0), EvidenceFold(policy_of(spec)), [], 0
        effect, look = rng.normal(0, 0.5, days + 2), self.hours * 3600
        for turn in range(int(days * 24 / self.hours)):
            time = turn * look
            batch = self._traffic(rng, release, time, look, effect, sent)
            sent += len(batch[1].request_id)
            log.append(batch)
            self._feed(fold, batch)
            if crash.random() < crashes:
                release, fold = Release.from_json(json.loads(json.dumps(release.to_json()))), self._rebuilt(spec, log)
            evidence = fold.advance(time + look)
            release, actions, judgement = step(release, evidence, time + look)
            self.events += [(round((time + look) / DAY, 2), sent, action, judgement) for action in actions]
            if release.ended:
                break
        return release, evidence

    def _traffic(self, rng, release, time, look, effect, sent):
        n = rng.poisson(self.per_day * look / DAY)
        at = np.sort(rng.uniform(time, time + look, n))
        ids = [f"q{sent + i}" for i in range(n)]
        logit = rng.normal(-1.3, 1.0, n) + effect[(at // DAY).astype(int)]
        label = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(float)
        bias = self.bias
        if self.bias_after_promotion is not None and release.state == "watch":
            bias = self.bias_after_promotion
        shared = logit + rng.normal(0, 0.3, n)
        answers = []
        for off, errors, slow in zip((0.0, bias), self.errors, self.slow, strict=True):
            error = rng.random(n) < errors
            score = 1 / (1 + np.exp(-(shared + off + rng.normal(0, 0.15, n))))
            answers.append((np.where(error, np.nan, score), error, np.where(rng.random(n) < slow, 90.0, 9.0)))
        rows = self._rows(rng, release, at, ids, answers)
        return rows, Labels(at + rng.uniform(2, 8, n) * 3600, ids, label)

    def _rows(self, rng, release, at, ids, answers):
        plan, number = wanted(release), {OLD.name: 0, NEW.name: 1}
        assert abs(sum(weight for _, weight in plan.split) - 1) < 1e-9
        drawn = rng.choice(len(plan.split), len(at), p=[weight for _, weight in plan.split])
        arm = np.array([number[version] for version, _ in plan.split], dtype=int)[drawn]
        share = np.array([weight for _, weight in plan.split])[drawn]
        if not plan.release:
            return []

        def rows(arm, share, mirrored):
            score, error, latency = (np.where(arm == 1, answers[1][k], answers[0][k]) for k in range(3))
            copies = np.full(len(at), mirrored)
            return rows_of(at, ids, arm, share, mirrored=copies, score=score, error=error, latency_ms=latency)

        copied = [rows(np.full(len(at), number[v]), np.ones(len(at)), True) for v in plan.mirrors]
        return [rows(arm, share, False), *copied]

    def _feed(self, fold, batch):
        for rows in batch[0]:
            fold.add(rows)
        fold.label(batch[1])

    def _rebuilt(self, spec, log):
        fold = EvidenceFold(policy_of(spec))
        for batch in log:
            self._feed(fold, batch)
        return fold
