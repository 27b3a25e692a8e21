"""Bring the cluster up. Each step looks first whether it is done, so a killed `up` is gone on with by the next one."""

from __future__ import annotations

import datetime
import os
import time
from concurrent.futures import ThreadPoolExecutor

from k8s.cluster import addons, binaries, images, machine, node
from k8s.cluster.commands import wait
from k8s.cluster.places import KUBECONFIG, NODE_NAME, READY
from k8s.cluster.say import phase, say


def up(ours: bool = True) -> None:
    """The node, its add-ons and the images; `ours` says whether Tidegate's own images are built too."""
    began = time.monotonic()
    machine.check()
    binaries.build(last=False)
    started = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
    with phase("API server"):
        node.prepare()
        node.start_runtime()
        node.start_api()
    with phase("node ready"):
        after = started if node.start_rest() else ""
        # a node that stood before says that it is ready until the new kubelet has spoken
        wait("the node", lambda: node.node_ready(after), 120)
    images.load_third_party(without=binaries.LAST)
    with phase("name server, storage, Envoy Gateway applied"):
        addons.install_dns()
        addons.install_storage()
        addons.install_gateway()
    with ThreadPoolExecutor(1) as beside:
        # building our images waits for the network and uses one core
        rest = beside.submit(binaries.build, last=True)
        if ours:
            images.load_ours()
        rest.result()
    images.load_third_party()
    with phase("name server and Envoy Gateway available"):
        addons.wait_available()
    READY.write_text(f"node {NODE_NAME}, process {os.getpid()}, {datetime.datetime.now(datetime.UTC):%FT%TZ}\n")
    say(f"{time.monotonic() - began:7.1f} s  the cluster is up; kubeconfig: {KUBECONFIG}")
