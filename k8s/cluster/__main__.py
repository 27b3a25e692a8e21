"""``python -m k8s.cluster up | down | test | images | build | status | kubeconfig | env``: the test cluster."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

from k8s.cluster import daemons, kind, machine, node, places
from k8s.cluster.buildah import TARGETS
from k8s.cluster.images import TAG, load_ours
from k8s.cluster.say import SECONDS, say
from tidegate.errors import TidegateError, UserError


def main(words: list[str] | None = None) -> int:
    """Exit status 0; 1 for `status` when the cluster is not up; 2 with one line when something is wrong."""
    given = _parser().parse_args(words)
    try:
        return int(given.call(given) or 0)
    except TidegateError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return error.exit_status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m k8s.cluster", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")
    up = verbs.add_parser("up", help="build what is missing, start what does not run; idempotent")
    up.add_argument("--no-images", action="store_true", help="do not build Tidegate's own images")
    up.set_defaults(call=_up)
    down = verbs.add_parser("down", help="end everything and leave nothing that runs")
    down.add_argument("--purge", action="store_true", help="remove the state too; programs and images stay cached")
    down.set_defaults(call=_down)
    images = verbs.add_parser("images", help="build Tidegate's images again and load what changed")
    images.add_argument("targets", nargs="*", metavar="TARGET", help=f"{', '.join(TARGETS)}; both when none is named")
    images.add_argument("--tag", default=TAG, help=f"instead of {TAG}, for trying something beside what runs")
    images.set_defaults(call=_images)
    verbs.add_parser("test", help="up, then every test that needs the cluster").set_defaults(call=_test)
    verbs.add_parser("build", help="compile the programs from source, start nothing").set_defaults(call=_build)
    verbs.add_parser("status", help="what runs").set_defaults(call=_status)
    verbs.add_parser("kubeconfig", help="print the path of the administrator's kubeconfig").set_defaults(call=_path)
    verbs.add_parser("env", help="print exports for a shell").set_defaults(call=_env)
    return parser


def _up(given: argparse.Namespace) -> None:
    if machine.road() == "kind":
        kind.up(ours=not given.no_images)
        return
    from k8s.cluster.up import up

    up(ours=not given.no_images)


def _down(given: argparse.Namespace) -> None:
    if machine.road() == "kind":
        kind.down()
        return
    from k8s.cluster.down import down

    down(purge=given.purge)


def _images(given: argparse.Namespace) -> None:
    targets = tuple(given.targets) or TARGETS
    if unknown := set(targets) - set(TARGETS):
        raise UserError("images", ", ".join(sorted(unknown)), " or ".join(TARGETS))
    if machine.road() == "kind":
        kind.build_ours(targets, given.tag)
        return
    for name in load_ours(targets, given.tag):
        print(name)


def _test(given: argparse.Namespace) -> int:
    given.no_images = False
    _up(given)
    say("phases: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in SECONDS.items()))
    words = ("pytest", "-m", "cluster", "--durations=15", "tests/cluster")
    # some tests ask for a cluster by its kubeconfig, as on one of somebody else's
    path = f"{places.BIN}:{os.environ.get('PATH', '')}"
    env = {**os.environ, "KUBECONFIG": str(places.KUBECONFIG), "PATH": path}
    return subprocess.run([sys.executable, "-m", *words], cwd=places.CLONE, env=env, check=False).returncode


def _build(_: argparse.Namespace) -> None:
    from k8s.cluster.binaries import build

    build()


def _status(_: argparse.Namespace) -> int:
    alive = node.alive()
    for name, lives in alive.items():
        print(f"{name:12} {'runs as process ' + str(daemons.find(name)) if lives else 'does not run'}")
    print(f"{'cluster':12} {'up' if places.READY.exists() else 'not up'}")
    return 0 if places.READY.exists() and all(alive.values()) else 1


def _path(_: argparse.Namespace) -> None:
    print(places.KUBECONFIG)


def _env(_: argparse.Namespace) -> None:
    print(f"export KUBECONFIG={places.KUBECONFIG}\nexport PATH={places.BIN}:$PATH")


if __name__ == "__main__":
    sys.exit(main())
