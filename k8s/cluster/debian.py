"""Folders from Debian's packages, for images where there is no registry. Nothing is installed on the machine."""

from __future__ import annotations

import shutil
from pathlib import Path

from k8s.cluster.commands import run
from k8s.cluster.places import DEBS
from tidegate.errors import PlatformError

_C = ("libc6", "libc-bin", "libgcc-s1", "zlib1g")
_KERBEROS = ("libgssapi-krb5-2", "libkrb5-3", "libk5crypto3", "libkrb5support0", "libcom-err2", "libkeyutils1")
SMALL = (*_C, "base-files", "netbase", "tzdata", "busybox-static")
"""The C library, names of services, time zones, a shell."""
PYTHON = (
    *SMALL,
    *("python3.11", "python3.11-minimal", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-venv"),
    *("python3-distutils", "python3-lib2to3", "python3-pip-whl", "python3-setuptools-whl", "media-types"),
    *("libbz2-1.0", "libcrypt1", "libexpat1", "libffi8", "liblzma5", "libncursesw6", "libreadline8", "libsqlite3-0"),
    *("libssl3", "libtinfo6", "libuuid1", "libstdc++6", "libgomp1", "ca-certificates"),
)
"""Python with pip in reach, and what wheels expect of the machine."""
POSTGRESQL = (
    *SMALL,
    *("postgresql-15", "postgresql-client-15", "libpq5", "libxml2", "libicu72", "liblz4-1", "libzstd1", "liblzma5"),
    *("libssl3", "libldap-2.5-0", "libsasl2-2", "libpam0g", "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0"),
    *("libstdc++6", "libaudit1", "libcap-ng0", "libreadline8", "libtinfo6", "libuuid1", "libcrypt1", "libselinux1"),
    *("libpcre2-8-0", "libxslt1.1", "libedit2", "libbsd0", "libmd0", *_KERBEROS),
    *(
        "libgnutls30",
        "libp11-kit0",
        "libidn2-0",
        "libunistring2",
        "libtasn1-6",
        "libnettle8",
        "libhogweed6",
        "libgmp10",
        "libffi8",
    ),
)
REDIS = (
    *SMALL,
    *("redis-server", "redis-tools", "libatomic1", "libhiredis0.14", "libjemalloc2", "liblua5.1-0", "liblzf1"),
    *("libssl3", "libstdc++6", "libsystemd0", "libcap2", "libgcrypt20", "libgpg-error0", "liblzma5", "liblz4-1"),
    *("libzstd1", "lua-bitop", "lua-cjson"),
)
_DROP = (
    *("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/lintian", "usr/share/bug", "usr/share/info"),
    *("usr/share/postgresql/15/man", "usr/lib/postgresql/15/lib/bitcode", "usr/lib/systemd", "lib/systemd", "var/log"),
    *("usr/lib/postgresql/15/lib/llvmjit.so", "usr/share/zoneinfo/right", "usr/share/zoneinfo/posix", "etc/init.d"),
    *(
        "usr/share/applications",
        "usr/share/pixmaps",
        "usr/share/binfmts",
        "usr/share/menu",
        "var/cache",
        "etc/cron.daily",
    ),
)


_INDEX = (f"--option=Dir::Cache::pkgcache={DEBS}/index.bin", f"--option=Dir::Cache::srcpkgcache={DEBS}/lists.bin")
"""Images of Debian tell apt to keep no index: it would be made anew at each question, for five seconds."""


def versions(packages: tuple[str, ...]) -> str:
    """What apt would fetch now, a package and its version a line: the input that decides the folder."""
    DEBS.mkdir(parents=True, exist_ok=True)
    told = run("apt-cache", *_INDEX, "--no-all-versions", "show", *packages)
    fields = [line.partition(": ")[2] for line in told.splitlines() if line.startswith(("Package: ", "Version: "))]
    if missing := set(packages) - set(fields):
        raise PlatformError(f"apt knows no {', '.join(sorted(missing))}; apt-get update, on Debian 12, may help")
    return "\n".join(fields)


def unpack(packages: tuple[str, ...], tree: Path) -> None:
    """Fetch what is not there yet and unpack it into `tree`, without what only people read."""
    for folder in (DEBS, tree):
        folder.mkdir(parents=True, exist_ok=True)
    pairs = versions(packages).splitlines()
    wanted = dict(zip(pairs[::2], pairs[1::2], strict=True))
    missing = [f"{name}={version}" for name, version in wanted.items() if not _files(name, version)]
    if missing:
        run("apt-get", *_INDEX, "--option", "APT::Sandbox::User=root", "download", *missing, cwd=DEBS)
    for name, version in wanted.items():
        run("dpkg-deb", "--extract", _files(name, version)[0], tree)
    for name in _DROP:
        path = tree / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    _finish(tree)


def _files(name: str, version: str) -> list[Path]:
    return list(DEBS.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"))


def _finish(tree: Path) -> None:
    """What the packages' own scripts would have done, as far as it matters to a program in a pod."""
    for name in ("etc", "tmp", "proc", "sys", "dev", "run", "bin", "usr/bin", "usr/local/bin"):
        (tree / name).mkdir(parents=True, exist_ok=True)
    people = "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/tmp:/bin/sh\n"
    (tree / "etc/passwd").write_text(people)
    (tree / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    (tree / "etc/nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files dns\n")
    busybox = tree / "bin/busybox"
    for name in run(busybox, "--list").split():
        link = tree / "bin" / name
        if name != "busybox" and not link.is_symlink() and not link.exists():
            link.symlink_to("busybox")
    certificates = sorted((tree / "usr/share/ca-certificates").rglob("*.crt"))
    if certificates:
        (tree / "etc/ssl/certs").mkdir(parents=True, exist_ok=True)
        bundle = "".join(path.read_text().strip() + "\n" for path in certificates)
        (tree / "etc/ssl/certs/ca-certificates.crt").write_text(bundle)
