"""Bring the cluster up. Each step looks first whether it is done, so a killed `up` is gone on with by the next one."""

from __future__ import annotations

import datetime
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from k8s.cluster import addons, binaries, images, machine, node
from k8s.cluster.commands import wait
from k8s.cluster.places import CLONE, KUBECONFIG, NODE_NAME, READY
from k8s.cluster.say import phase, say
from tidegate.errors import PlatformError


def up(ours: bool = True) -> None:
    """The node, its add-ons and the images; `ours` says whether Tidegate's own images are built too."""
    began = time.monotonic()
    machine.check()
    binaries.build(binaries.FIRST)
    with _building() as rest:
        started = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
        with phase("API server"):
            node.prepare()
            node.start_runtime()
            node.start_api()
        with phase("node ready"):
            after = started if node.start_rest() else ""
            # a node that stood before says that it is ready until the new kubelet has spoken
            wait("the node", lambda: node.node_ready(after), 120)
        images.load_third_party(without=binaries.missing())
        addons.install_storage()
        if ours:
            # building our images waits for the network and uses one core
            images.load_ours()
        for name, install in (("coredns", addons.install_dns), ("envoy-gateway", addons.install_gateway)):
            _until_built(rest, (name,))
            images.load_third_party(without=binaries.missing())
            install()
        with phase("name server and Envoy Gateway available"):
            addons.wait_available()
        _until_built(rest, ())
    images.load_third_party()
    addons.install_crds("argo-rollouts")
    READY.write_text(f"node {NODE_NAME}, process {os.getpid()}, {datetime.datetime.now(datetime.UTC):%FT%TZ}\n")
    say(f"{time.monotonic() - began:7.1f} s  the cluster is up; kubeconfig: {KUBECONFIG}")


@contextmanager
def _building() -> Iterator[subprocess.Popen[bytes]]:
    """What is not built yet, built beside by a process of its own: so each phase's processor seconds are its own."""
    words = [sys.executable, "-m", "k8s.cluster", "build"]
    beside = subprocess.Popen(words, cwd=CLONE, start_new_session=True)
    try:
        yield beside
    except BaseException:
        with suppress(ProcessLookupError):
            os.killpg(beside.pid, signal.SIGTERM)
        raise
    finally:
        beside.wait()


def _until_built(beside: subprocess.Popen[bytes], names: tuple[str, ...]) -> None:
    """Until `names` (all, when empty) are built. Raises PlatformError when the building process cannot."""
    while binaries.missing(names):
        if beside.poll() is not None and binaries.missing(names):
            raise PlatformError(f"not built: {', '.join(sorted(binaries.missing(names)))}; see above")
        time.sleep(0.2)
