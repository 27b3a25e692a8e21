"""What is read of a cluster is kept until something is said to have changed."""

from __future__ import annotations

from tidegate.targets.pods import Kept


def test_it_is_read_again_when_touched_and_when_asked() -> None:
    kept, reads = Kept[int](1000.0), iter(range(10))

    def read() -> int:
        return next(reads)

    assert [kept.get(read), kept.get(read), kept.get(read, again=True), kept.get(read)] == [0, 0, 1, 1]
    kept.touch()
    assert [kept.get(read), kept.get(read)] == [2, 2]


def test_a_change_while_it_is_read_is_not_lost() -> None:
    kept, reads = Kept[int](1000.0), iter(range(10))

    def read() -> int:
        kept.touch()
        return next(reads)

    assert [kept.get(read), kept.get(lambda: 7), kept.get(read)] == [0, 7, 7]


def test_nothing_is_kept_for_no_time() -> None:
    kept, reads = Kept[int](0.0), iter(range(10))
    assert [kept.get(lambda: next(reads)) for _ in range(3)] == [0, 1, 2]
