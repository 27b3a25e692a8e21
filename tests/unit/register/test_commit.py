"""Which code ran, in a repository and outside of one."""

from __future__ import annotations

import subprocess
from importlib import metadata

from tidegate.register.commit import code_version


def git(folder, *words):
    name = ("-c", "user.name=t", "-c", "user.email=t@example.org")
    done = subprocess.run(("git", "-C", folder, *name, *words), check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_commit_and_whether_files_differ_from_it(tmp_path):
    git(tmp_path, "init", "-q")
    (tmp_path / "a.py").write_text("1")
    git(tmp_path, "add", "a.py")
    git(tmp_path, "commit", "-qm", "first")
    (tmp_path / "untracked").write_text("artifacts are no code")
    clean = {"commit": git(tmp_path, "rev-parse", "HEAD"), "changed": False, "tidegate": metadata.version("tidegate")}
    assert code_version(tmp_path) == clean
    (tmp_path / "a.py").write_text("2")
    assert code_version(tmp_path) == {**clean, "changed": True}


def test_outside_of_a_repository_and_without_git_the_package_says_which_code(tmp_path, monkeypatch):
    version = {"commit": None, "changed": False, "tidegate": metadata.version("tidegate")}
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_version(tmp_path) == version
    monkeypatch.setenv("PATH", str(tmp_path))
    assert code_version(tmp_path) == version
