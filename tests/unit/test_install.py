"""The Secrets of an installation fit each other and are drawn anew each time."""

from __future__ import annotations

import itertools

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import make_url

from tests.manifests import overlay, pod_of
from tidegate.install import new_key_pair, values


def drawn() -> dict[str, dict[str, str]]:
    counted = itertools.count()
    return values("tidegate", lambda: f"word{next(counted)}", new_key_pair())


def test_both_databases_are_opened_with_the_password_that_the_server_is_given():
    made = drawn()["tidegate-database"]
    for key, name in (("url", "tidegate"), ("mlflow", "mlflow")):
        url = make_url(made[key])
        assert (url.password, url.database, url.host) == (made["password"], name, "postgres.tidegate.svc")


def test_every_other_store_is_given_the_word_that_its_clients_say():
    made = drawn()
    assert (
        f"requirepass {made['tidegate-redis']['connection'].split('password=')[1]}"
        in made["tidegate-redis"]["redis.conf"]
    )
    assert f"//{yaml.safe_load(made['tidegate-nats']['token.conf'])['token']}@" in made["tidegate-nats"]["url"]


def test_no_word_is_used_twice():
    words = [f"word{n}" for n in range(4)]
    text = str(drawn())
    assert all(word in text for word in words)
    assert "word4" not in text


def test_the_public_key_is_that_of_the_private_one():
    private, public = new_key_pair()
    assert Ed25519PrivateKey.from_private_bytes(bytes.fromhex(private)).public_key().public_bytes_raw().hex() == public
    assert new_key_pair() != (private, public)


def test_every_secret_that_a_pod_of_the_overlay_asks_for_is_made():
    asked: set[tuple[str, str]] = set()
    for one in overlay("local"):
        pod = pod_of(one) or {}
        for volume in pod.get("volumes", ()):
            sources = [volume["secret"]] if "secret" in volume else volume.get("projected", {}).get("sources", ())
            for source in sources:
                secret = source.get("secret", source)
                name = secret.get("secretName", secret.get("name"))
                asked |= {(name, item["key"]) for item in secret.get("items", ())}
        for container in pod.get("containers", ()):
            for variable in container.get("env", ()):
                if ref := variable.get("valueFrom", {}).get("secretKeyRef"):
                    asked.add((ref["name"], ref["key"]))
    made = {(name, key) for name, data in drawn().items() for key in data}
    assert asked >= {("tidegate-database", "url"), ("tidegate-nats", "token.conf"), ("tidegate-signing", "signing.pub")}
    assert asked <= made
