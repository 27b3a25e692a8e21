"""Leadership on a real API server."""

from __future__ import annotations

import threading
import time

import pytest
from cluster.space import Space

from tidegate.controller import lease as lease_module
from tidegate.controller.lease import Lease
from tidegate.errors import Conflict

pytestmark = pytest.mark.cluster


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A Lease of two seconds."""
    for name, seconds in {"LASTS": 2.0, "GIVES_UP": 1.4, "EVERY": 0.3}.items():
        monkeypatch.setattr(lease_module, name, seconds)


def keeping(lease: Lease) -> threading.Thread:
    thread = threading.Thread(target=lease.keep, daemon=True)
    thread.start()
    return thread


def test_one_leads_and_the_next_one_has_a_later_epoch(bare: Space) -> None:
    first, second = Lease(bare.cluster, "given-back", "a"), Lease(bare.cluster, "given-back", "b")
    assert first.acquire()
    keeping(first)
    assert not second.acquire(stopped=iter([False, False, True]).__next__)
    assert first.held
    assert not second.held
    first.stop()
    started = time.monotonic()
    assert second.acquire()
    assert time.monotonic() - started < 1.9, "one that was given back is waited for"
    assert second.check() > first.epoch
    with pytest.raises(Conflict, match="does not lead"):
        first.check()


def test_one_that_stands_still_past_its_lease_leads_no_more(bare: Space) -> None:
    first, second = Lease(bare.cluster, "stopped", "a"), Lease(bare.cluster, "stopped", "b")
    assert first.acquire()  # and is never renewed, as by a process that was stopped
    assert second.acquire()
    assert not first.held
    thread = keeping(first)
    thread.join(5)
    assert not thread.is_alive()
    assert second.held


def test_a_process_that_starts_again_under_its_name_takes_over_at_once(bare: Space) -> None:
    first, again = Lease(bare.cluster, "again", "pod-1"), Lease(bare.cluster, "again", "pod-1")
    assert first.acquire()
    started = time.monotonic()
    assert again.acquire()
    assert time.monotonic() - started < 1.0
    assert again.epoch == first.epoch + 1
    assert not first._renew()


def test_a_lease_that_was_deleted_goes_on_above_its_last_epoch(bare: Space) -> None:
    first = Lease(bare.cluster, "deleted", "a")
    assert first.acquire()
    bare.kubectl("delete", "lease", "deleted")
    thread = keeping(first)
    thread.join(5)
    assert not first.held
    second = Lease(bare.cluster, "deleted", "b")
    assert second.acquire()
    assert second.epoch > first.epoch
