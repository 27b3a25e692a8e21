from __future__ import annotations

import threading
import time
from collections import Counter

from tidegate.controller.scheduler import LEAST, Scheduler


class Turned:
    """Counts turns; `hold` lets a turn wait."""

    def __init__(self, after: float, threads: int = 4) -> None:
        self.after, self.turns, self.at_once = after, Counter[str](), Counter[str]()
        self.hold = threading.Event()
        self.hold.set()
        self.most = 0
        self.turned = threading.Condition()
        self.scheduler = Scheduler(self, threads)
        self.thread = threading.Thread(target=self.scheduler.run)

    def __call__(self, name: str) -> float:
        with self.turned:
            self.at_once[name] += 1
            self.most = max(self.most, self.at_once[name])
            self.turned.notify_all()
        self.hold.wait(10)
        with self.turned:
            self.at_once[name] -= 1
            self.turns[name] += 1
            self.turned.notify_all()
        if name == "broken":
            raise ValueError(name)
        return self.after

    def __enter__(self) -> Turned:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.hold.set()
        self.scheduler.stop()
        self.thread.join(10)
        assert not self.thread.is_alive()

    def until(self, name: str, count: int) -> None:
        with self.turned:
            assert self.turned.wait_for(lambda: self.turns[name] >= count, 10), self.turns


def test_a_model_that_is_woken_is_turned_and_rests_until_its_time() -> None:
    with Turned(after=600.0) as found:
        for name in ("a", "b"):
            found.scheduler.wake(name)
            found.until(name, 1)
        found.scheduler.wake("a")
        found.until("a", 2)
    assert found.turns == {"a": 2, "b": 1}


def test_its_time_comes_without_anybody_waking_it() -> None:
    with Turned(after=LEAST) as found:
        found.scheduler.wake("a")
        found.until("a", 3)


def test_no_model_is_turned_twice_at_once_and_a_wake_in_a_turn_is_another_turn() -> None:
    with Turned(after=600.0) as found:
        found.hold.clear()
        found.scheduler.wake("a")
        with found.turned:
            assert found.turned.wait_for(lambda: found.at_once["a"] == 1, 10)
        for _ in range(5):
            found.scheduler.wake("a")
        found.hold.set()
        found.until("a", 2)
    assert found.most == 1
    assert found.turns["a"] == 2


def test_a_sooner_time_counts_and_a_later_one_does_not() -> None:
    with Turned(after=600.0) as found:
        found.scheduler.wake("a", after=600.0)
        found.scheduler.wake("a", after=0.0)
        found.scheduler.wake("a", after=600.0)
        found.until("a", 1)
    assert found.turns["a"] == 1


def test_one_that_is_forgotten_or_says_no_more_has_no_turn() -> None:
    with Turned(after=-1.0) as found:
        found.scheduler.wake("a", after=0.3)
        found.scheduler.forget("a")
        found.scheduler.wake("b")
        found.until("b", 1)
        found.scheduler.wake("c", after=0.5)
        found.until("c", 1)
    assert found.turns == {"b": 1, "c": 1}


def test_a_turn_that_breaks_ends_the_scheduler_and_says_why() -> None:
    found = Turned(after=600.0)
    found.scheduler.wake("broken")
    found.thread.start()
    found.thread.join(10)
    assert isinstance(found.scheduler.failed, ValueError)


def test_many_models_in_few_threads() -> None:
    started = time.monotonic()
    with Turned(after=600.0, threads=2) as found:
        for number in range(1000):
            found.scheduler.wake(f"m{number}")
        for number in range(1000):
            found.until(f"m{number}", 1)
    assert time.monotonic() - started < 10
    assert sum(found.turns.values()) == 1000
