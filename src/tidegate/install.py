"""The Secrets of an installation: ``python -m tidegate.install``, in a pod that may create Secrets and nothing else.

Each is made once, with values that are drawn here; one that is there stays as it is and is not read. What belongs
together is one Secret, so that being killed between two leaves nothing that does not fit.
"""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Callable, Mapping

from tidegate.errors import PlatformError, TidegateError

LABELS = {"app.kubernetes.io/part-of": "tidegate", "app.kubernetes.io/managed-by": "tidegate-install"}


def values(namespace: str, draw: Callable[[], str], key_pair: tuple[str, str]) -> dict[str, dict[str, str]]:
    """Every Secret of the overlay `local` by name: its keys and values.

    draw: a new word of letters and digits at each call. key_pair: an Ed25519 key in hex, private, public.
    """
    password, redis, nats = draw(), draw(), draw()
    database = f"postgresql+psycopg://tidegate:{password}@postgres.{namespace}.svc"
    return {
        "tidegate-token": {"token": draw()},
        "tidegate-signing": {"signing.key": key_pair[0], "signing.pub": key_pair[1]},
        "tidegate-database": {
            "password": password,
            "url": f"{database}/tidegate",
            "mlflow": f"{database}/mlflow",
        },
        "tidegate-redis": {
            "redis.conf": f"dir /data\nappendonly yes\nprotected-mode no\nrequirepass {redis}\n",
            "connection": f"redis.{namespace}.svc:6379,password={redis}",
        },
        "tidegate-nats": {
            "token.conf": f'token: "{nats}"\n',
            "url": f"nats://{nats}@nats.{namespace}.svc:4222",
        },
    }


def create(namespace: str, wanted: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Create those that are not there; their names. PlatformError when the API server does not take one."""
    from kubernetes import client, config
    from kubernetes.client import ApiException

    config.load_incluster_config()
    api, made = client.CoreV1Api(), []
    for name, data in wanted.items():
        body = {
            "metadata": {"name": name, "labels": {"app.kubernetes.io/name": name, **LABELS}},
            "type": "Opaque",
            "stringData": dict(data),
        }
        try:
            api.create_namespaced_secret(namespace, body, field_manager="tidegate-install")
            made.append(name)
        except ApiException as error:
            if error.status != 409:
                raise PlatformError(f"secret {name}: the API server answers {error.status} {error.reason}") from None
    return made


def new_key_pair() -> tuple[str, str]:
    """An Ed25519 key: private and public, 32 bytes each, in hex."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    return key.private_bytes_raw().hex(), key.public_key().public_bytes_raw().hex()


def main() -> int:
    """Exit status 0 when every Secret is there; names, never values, are printed."""
    namespace = os.environ.get("TIDEGATE_NAMESPACE", "tidegate")
    wanted = values(namespace, lambda: secrets.token_hex(24), new_key_pair())
    try:
        made = create(namespace, wanted)
    except TidegateError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    for name in wanted:
        print(f"{name}: {'made' if name in made else 'is there'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
