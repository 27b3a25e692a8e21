"""What the restricted Pod Security profile asks of every pod of ours, and a little more. Pure, made new at each call.

Not as root, no capabilities, no way to more rights, a root file system that is read-only.
"""

from __future__ import annotations

from typing import Any

USER = 65534
"""User and group of every process of ours."""


def pod_security() -> dict[str, Any]:
    """The securityContext of a pod; its volumes are the group's."""
    return {
        "runAsNonRoot": True,
        "runAsUser": USER,
        "runAsGroup": USER,
        "fsGroup": USER,
        "fsGroupChangePolicy": "OnRootMismatch",
        "seccompProfile": {"type": "RuntimeDefault"},
    }


def container_security() -> dict[str, Any]:
    """The securityContext of each of its containers."""
    return {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
