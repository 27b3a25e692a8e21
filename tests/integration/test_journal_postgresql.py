"""The journal on a real PostgreSQL server, as a cluster has it: the same compare-and-swap, between processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))

from real_postgresql import postgresql_server

from tidegate.errors import Conflict, UserError
from tidegate.journal.events import Draft
from tidegate.journal.store import URL, Journal, open_journal, verify

APPEND = """
import sys
from pathlib import Path
from tidegate.errors import Conflict
from tidegate.journal.events import Draft
from tidegate.journal.store import open_journal
journal, won = open_journal(Path("no folder")), 0
while won < 10:
    seq = len(journal.read("race"))
    try:
        journal.append("race", [Draft("trigger.evaluated", 1.0, {"by": sys.argv[1]})], seq)
    except Conflict:
        continue
    won += 1
journal.close()
"""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgresql_server() as found:
        yield found


@pytest.fixture(autouse=True)
def on_the_server(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(URL, url)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Callable[[], Journal]]:
    """Opens the journal; each is closed at the end, for which the server waits."""
    with ExitStack() as stack:
        yield lambda: stack.enter_context(closing(open_journal(tmp_path / "state")))


def drafts(n: int) -> list[Draft]:
    return [Draft("trigger.evaluated", 10.0 * i, {"n": i, "share": 0.1 * i}) for i in range(n)]


def test_events_come_back_as_they_were_written_and_no_folder_is_made(
    opened: Callable[[], Journal], tmp_path: Path
) -> None:
    journal = opened()
    written = journal.append("m", drafts(3), 0)
    assert opened().read("m") == written
    verify(written)
    with pytest.raises(Conflict, match="event 3 is there, expected 1"):
        journal.append("m", drafts(1), 1)
    assert not (tmp_path / "state").exists()


def test_of_writers_at_once_one_wins_each_position(opened: Callable[[], Journal]) -> None:
    command = [sys.executable, "-c", APPEND]
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda who: subprocess.run([*command, who], check=False).returncode, "abc"))
    assert done == [0, 0, 0]
    events = opened().read("race")
    verify(events)
    assert sorted(event.data["by"] for event in events) == sorted("abc" * 10)


def test_a_server_that_restarted_is_asked_again(url: str, opened: Callable[[], Journal]) -> None:
    import psycopg

    journal = opened()
    journal.read("m")
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as other:
        other.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                      " AND backend_type = 'client backend'")  # fmt: skip
    assert journal.read("m") is not None


def test_a_url_that_is_none_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(URL, "no url: secret")
    with pytest.raises(UserError, match=URL) as told:
        open_journal(tmp_path)
    assert "secret" not in str(told.value)
