"""The tree of errors: whose fault, and which exit status.

TidegateError
 ├── UserError      bad input or wrong use: says the thing, what it got and what it takes (exit status 2)
 ├── Refused        the answer is no: a gate refused, a verdict is ``abort`` (exit status 1)
 └── PlatformError  our own fault or the machine's: a broken invariant, a process that will not start (exit status 2)
      ├── NotReady        a version does not start
      ├── Conflict        somebody else wrote first; read again and decide again
      └── TamperedJournal the journal does not reproduce itself
"""

from __future__ import annotations


class TidegateError(Exception):
    """Base of every error that Tidegate raises on purpose."""

    exit_status = 2


class UserError(TidegateError):
    """Bad input: one clear line that names the thing, what it got and what it takes."""

    def __init__(self, thing: str, got: object, takes: str) -> None:
        super().__init__(f"{thing}: got {got!r}, takes {takes}")
        self.thing, self.got, self.takes = thing, got, takes


class Refused(TidegateError):
    """The answer is no; nothing went wrong."""

    exit_status = 1


class PlatformError(TidegateError):
    """Not the user's fault: a broken invariant or a machine that does not do its part."""


class NotReady(PlatformError):
    """A version was started and does not become ready; traffic is unchanged."""

    def __init__(self, version: str, why: str) -> None:
        super().__init__(f"version {version} did not become ready{why}")
        self.version = version


class Conflict(PlatformError):
    """A compare-and-swap lost: the journal moved on; read again and decide again."""


class TamperedJournal(PlatformError):
    """The journal's chain or a recorded decision does not reproduce itself."""
