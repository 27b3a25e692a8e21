"""What runs before a server on a cluster: ``python -m tidegate.serve.fetch --store URL --digest D --to DIR ...``.

The model's files come by digest from the registry's artifact store, so that no image holds a model; they are checked
and their signature is verified before the server's container starts.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tidegate.errors import TidegateError, UserError
from tidegate.register.models import fetch_model


def main(arguments: Sequence[str] | None = None) -> int:
    """Leave the files in DIR/files; exit status 2 with one line when they are not what was registered."""
    parser = argparse.ArgumentParser(prog="tidegate.serve.fetch", description="Fetch one model version, checked.")
    parser.add_argument("--store", required=True, help="folder of model versions, at any place that fsspec reaches")
    parser.add_argument("--digest", required=True)
    parser.add_argument("--to", required=True, type=Path)
    parser.add_argument("--public-key", action="append", default=[], help="64 hex digits; may be given twice")
    given = parser.parse_args(sys.argv[1:] if arguments is None else arguments)
    target = given.to / "files"
    try:
        keys = [_key(text) for text in given.public_key]
        shutil.rmtree(target, ignore_errors=True)  # of an attempt before this one
        fetch_model(given.store, given.digest, target, keys)
    except TidegateError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    return 0


def _key(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise UserError("--public-key", text, "64 hex digits") from None


if __name__ == "__main__":
    sys.exit(main())
