"""What a replica of the operator says of itself: who may be asked, and who may take over."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from tidegate.controller import lease as lease_module
from tidegate.controller.lease import Lease
from tidegate.controller.operator import Operator, Server
from tidegate.errors import PlatformError
from tidegate.targets.gateway import MODEL


def asked(app, path: str, **headers: str) -> int:
    async def ask() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://operator") as client:
            return (await client.get(path, headers=headers)).status_code

    return asyncio.run(ask())


class Refuses:
    """An API server that takes nothing."""

    def get(self, kind, name):
        raise PlatformError("leases is forbidden")


class Held:
    """One where another replica leads."""

    def get(self, kind, name):
        return {"spec": {"holderIdentity": "other", "leaseTransitions": 7, "renewTime": "now"}}


@pytest.mark.parametrize(("api", "ready"), [(Held(), 200), (Refuses(), 503)], ids=["may", "may not"])
def test_a_replica_that_waits_is_ready_when_it_may_have_the_lease(api, ready, monkeypatch):
    monkeypatch.setattr(lease_module, "EVERY", 0.0)
    lease = Lease(api, "tidegate-operator", "me")
    server = Server(lambda: lease.waits)
    assert asked(server, "/readyz") == 503, "it has not asked for the lease yet"
    lease.acquire(stopped=iter([False, True]).__next__)
    assert asked(server, "/readyz") == ready
    assert asked(server, "/livez") == 200
    assert asked(server, "/labels") == 503, "labels are the leader's"


def test_who_took_the_lease_is_ready_when_it_sees_everything():
    server = Server(lambda: False)
    assert asked(server, "/readyz") == 503
    server.leads = True
    assert asked(server, "/readyz") == 200


def test_what_is_for_a_model_that_is_not_here_goes_to_no_other_one():
    async def other(scope, receive, send):
        raise AssertionError("another model was asked")

    operator = Operator.__new__(Operator)
    operator._apps, operator.app = {"known": other}, other
    assert asked(operator, "/labels", **{MODEL: "unknown"}) == 503
    with pytest.raises(AssertionError, match="another model"):
        asked(operator, "/labels", **{MODEL: "known"})
