# ruff: noqa: I001 - the order of imports is the order of the commands
"""The command line. ``tidegate <word>`` runs a step, ``tidegate <word> <verb>`` asks it something.

Exit status: 0 done, 1 the answer is no, 2 wrong use or bad input, with one line on stderr. With ``--json`` stdout is
one JSON document (or JSON lines where said) and nothing else. Whatever is heavy is imported inside a command.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import typer

from tidegate.cli import loop, words, data, model, release, serve, files, monitor, joined, deploy, new  # noqa: F401 - each adds its commands
from tidegate.cli.base import app
from tidegate.errors import TidegateError


def _find_workloads(source: Path) -> None:
    """Make the packages of a project's own `src` importable, here and in every process that is started from here.

    What is installed comes first here; a clone of the platform is left alone, its `src` is what is installed.
    """
    if not source.is_dir() or (source / "tidegate").exists() or str(source) in sys.path:
        return
    sys.path.append(str(source))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), str(source))))


def main() -> None:
    """Entry point: our errors become one line and an exit status, wrong use too."""
    _find_workloads(Path.cwd() / "src")
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except TidegateError as error:
        typer.echo(f"tidegate: {error}", err=True)
        sys.exit(error.exit_status)
    except typer.TyperException as error:
        message = getattr(error, "format_message", error.__str__)()
        typer.echo(f"tidegate: {' '.join(message.split())}", err=True)
        sys.exit(2)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
