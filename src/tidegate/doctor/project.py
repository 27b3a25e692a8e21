"""A project's files as the doctor reads them: imports from syntax trees, YAML as documents. Does I/O."""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from tidegate.errors import UserError

SKIPPED = {
    *("node_modules", "__pycache__", "venv", "env", "site-packages", "dist", "build", "mlruns", "data", "state"),
    *("benchmarks", "demo", "docs", "examples"),
}
"""Folders that hold no code of the project's own, or none that runs in production."""
KEPT = {".github"}
"""Hidden folders that say something."""
LARGEST = 2**20
"""Bytes of a file that is read."""


class Project:
    """The files under a folder, by path from there; what is read is kept."""

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise UserError("PATH", str(root), "a project's folder")
        self.root = root
        self._documents: dict[str, list[Any]] = {}

    @cached_property
    def files(self) -> tuple[str, ...]:
        """Every file, sorted; without environments, caches and data."""
        return tuple(sorted(self._walk()))

    def _walk(self) -> Iterator[str]:
        for folder, inside, names in os.walk(self.root):
            here = Path(folder)
            inside[:] = [
                one for one in inside
                if one not in SKIPPED and (not one.startswith(".") or one in KEPT)
                and not (here / one / "pyvenv.cfg").exists() and not (here / one).is_symlink()
            ]  # fmt: skip
            yield from ((here / name).relative_to(self.root).as_posix() for name in names)

    def matching(self, *patterns: str) -> list[str]:
        """Files whose path, or whose name, matches one of the patterns; no tests."""
        return [path for path in self.files if not is_test(path) and any(_matches(path, one) for one in patterns)]

    def text(self, path: str) -> str:
        """A file's text; empty where it cannot be read or is too large."""
        try:
            place = self.root / path
            return place.read_text(encoding="utf-8") if place.stat().st_size <= LARGEST else ""
        except (OSError, UnicodeDecodeError):
            return ""

    def documents(self, path: str) -> list[Any]:
        """The YAML documents of a file; none where it is no YAML."""
        import yaml

        if path not in self._documents:
            try:
                self._documents[path] = list(yaml.load_all(self.text(path), Loader=_LOADER()))
            except yaml.YAMLError:
                self._documents[path] = []
        return self._documents[path]

    @cached_property
    def yaml_files(self) -> list[str]:
        """YAML files that are no tests."""
        return self.matching("*.yaml", "*.yml")

    @cached_property
    def trees(self) -> Mapping[str, ast.Module]:
        """Syntax trees of Python files and notebooks that are no tests; what does not parse is left out."""
        found = {}
        for path in self.matching("*.py", "*.ipynb"):
            text = self.text(path)
            try:
                found[path] = ast.parse(_cells(text) if path.endswith(".ipynb") else text)
            except (SyntaxError, ValueError):
                continue
        return found

    @cached_property
    def imports(self) -> list[tuple[str, int, str]]:
        """(path, line, module) of every import."""
        return [(path, line, name) for path, tree in self.trees.items() for line, name in _imported(tree)]

    def importing(self, *modules: str) -> list[str]:
        """``path:line imports module`` of imports of these modules or what is in them; the first of each file."""
        found: dict[str, str] = {}
        for path, line, name in self.imports:
            for module in modules:
                if name == module or name.startswith(f"{module}."):
                    found.setdefault(path, f"{path}:{line} imports {module}")
        return list(found.values())


def is_test(path: str) -> bool:
    """Whether a path is a test, or lies in a folder of tests."""
    place = PurePosixPath(path)
    return bool({"tests", "test"} & set(place.parts[:-1])) or bool(re.fullmatch(r"test_.*\.py|.*_test\.py", place.name))


def _matches(path: str, pattern: str) -> bool:
    place = PurePosixPath(path)
    return place.match(pattern) if "/" not in pattern else place.as_posix() == pattern or place.match(pattern)


def _imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, one.name) for one in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((node.lineno, f"{node.module}.{one.name}") for one in node.names)


def _cells(text: str) -> str:
    """The code of a notebook, without its magic lines."""
    document = json.loads(text)
    sources = ("".join(cell["source"]) for cell in document.get("cells", ()) if cell.get("cell_type") == "code")
    return "\n".join(
        line if not line.lstrip().startswith(("%", "!")) else "" for one in sources for line in one.split("\n")
    )


def _LOADER() -> Any:  # noqa: N802
    """PyYAML's safe loader, to which every tag of others is nothing."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    Loader.add_multi_constructor("", lambda loader, suffix, node: None)
    return Loader
