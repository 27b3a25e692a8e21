"""The node's bridge, its egress guard and the three kernel settings that it needs; all of it can be undone."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from k8s.cluster.commands import run
from k8s.cluster.places import ADDRESS, BRIDGE, CONF, NODE_NAME, POD_BRIDGE, RUN

_SETTINGS = {
    "net/ipv4/ip_forward": 1,
    # else the answer of a Service on the same bridge passes by the address translation
    "net/bridge/bridge-nf-call-iptables": 1,
    "fs/inotify/max_user_instances": 1024,
}
_WAS = RUN / "settings.json"
_TABLES = (("inet", NODE_NAME), ("ip", "kube-proxy"), ("ip6", "kube-proxy"))


def make() -> None:
    """Bridge, guard and settings. The guard is there before anything is forwarded."""
    if not Path(f"/sys/class/net/{BRIDGE}").exists():
        run("ip", "link", "add", BRIDGE, "type", "bridge")
    if f" {ADDRESS}/32" not in run("ip", "-4", "addr", "show", "dev", BRIDGE):
        run("ip", "addr", "add", f"{ADDRESS}/32", "dev", BRIDGE)
    run("ip", "link", "set", BRIDGE, "up")
    run("nft", "-f", CONF / "guard.nft")
    if not _WAS.exists():
        _WAS.write_text(json.dumps({name: _setting(name).read_text().strip() for name in _SETTINGS}))
    for name, value in _SETTINGS.items():
        # a larger value of the machine stays
        if int(_setting(name).read_text()) < value:
            _setting(name).write_text(str(value))


def remove() -> None:
    """Undo `make`, and what kube-proxy, kubelet and the bridge plugin left."""
    for bridge in (POD_BRIDGE, BRIDGE):
        run("ip", "link", "del", bridge, check=False)
    for family, table in _TABLES:
        run("nft", "delete", "table", family, table, check=False)
    for command in ("iptables", "ip6tables"):
        _remove_chains(command)
    if _WAS.exists():
        for name, value in json.loads(_WAS.read_text()).items():
            with suppress(OSError):
                _setting(name).write_text(value)
        _WAS.unlink()


def left() -> list[str]:
    """What of it is still there."""
    tables = run("nft", "list", "tables").splitlines()
    links = [bridge for bridge in (POD_BRIDGE, BRIDGE) if Path(f"/sys/class/net/{bridge}").exists()]
    return links + [f"table {one} {name}" for one, name in _TABLES if f"table {one} {name}" in tables]


def _setting(name: str) -> Path:
    return Path("/proc/sys") / name


def _remove_chains(command: str) -> None:
    for table in ("filter", "nat", "mangle"):
        rules = run(command, "-t", table, "-S", check=False).splitlines()
        for rule in rules:
            if rule.startswith("-A") and "KUBE-" in rule:
                run(command, "-t", table, "-D", *rule.split()[1:], check=False)
        chains = [rule.split()[1] for rule in rules if rule.startswith("-N KUBE-")]
        for chain in chains:
            run(command, "-t", table, "-F", chain, check=False)
        for chain in chains:
            run(command, "-t", table, "-X", chain, check=False)
