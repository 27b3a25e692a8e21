"""A listener in a network namespace of this machine: the "outside" that a pod must not reach."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from k8s.cluster.commands import run
from k8s.cluster.places import CONF, NODE_NAME

_NAME = "tidegate-far"
_NODE, _FAR, _PORT = "198.51.100.1", "198.51.100.2", 8000
_LISTEN = (
    f"import socket; s = socket.create_server(('{_FAR}', {_PORT})); print('up', flush=True)\nwhile True: s.accept()"
)


class FarEnd:
    """A veth pair to a namespace with a route back; everything of it is gone when the block ends."""

    address = (_FAR, _PORT)

    def __enter__(self) -> FarEnd:
        self._remove()
        run("ip", "netns", "add", _NAME)
        run("ip", "link", "add", "tg-near", "type", "veth", "peer", "name", "tg-far", "netns", _NAME)
        run("ip", "addr", "add", f"{_NODE}/30", "dev", "tg-near")
        run("ip", "link", "set", "tg-near", "up")
        for words in (
            ("addr", "add", f"{_FAR}/30", "dev", "tg-far"),
            ("link", "set", "tg-far", "up"),
            ("route", "add", "default", "via", _NODE),
        ):
            run("ip", "-n", _NAME, *words)
        command = ["ip", "netns", "exec", _NAME, sys.executable, "-c", _LISTEN]
        self._listener = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._listener.stdout is not None
        assert self._listener.stdout.readline() == "up\n"
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.kill()
        self._listener.wait()
        self._remove()

    def answers_the_node(self) -> bool:
        """The way there is open for the machine itself."""
        with socket.socket() as trial:
            trial.settimeout(2)
            return trial.connect_ex(self.address) == 0

    @contextmanager
    def without_guard(self) -> Iterator[None]:
        """The guard taken away, for this far end only."""
        rule = f"insert rule inet {NODE_NAME} guard ip daddr {_FAR} accept; "
        back = f"insert rule inet {NODE_NAME} guard ip saddr {_FAR} accept"
        run("nft", "-f", "-", stdin=rule + back)
        try:
            yield
        finally:
            run("nft", "-f", CONF / "guard.nft")

    def _remove(self) -> None:
        run("ip", "link", "del", "tg-near", check=False)
        run("ip", "netns", "del", _NAME, check=False)
