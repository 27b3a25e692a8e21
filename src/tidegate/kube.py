"""The API server over HTTP: read, list, apply (server-side), create, replace, delete. Does I/O."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from tidegate.errors import Conflict, PlatformError, UserError

MANAGER = "tidegate"
"""The field manager of everything that is written."""
SECONDS = 10.0
"""Longest that one call may take."""

Json = dict[str, Any]
_PLURALS = {
    "Deployment": ("apps/v1", "deployments"),
    "Event": ("v1", "events"),
    "HTTPRoute": ("gateway.networking.k8s.io/v1", "httproutes"),
    "HorizontalPodAutoscaler": ("autoscaling/v2", "horizontalpodautoscalers"),
    "Job": ("batch/v1", "jobs"),
    "Lease": ("coordination.k8s.io/v1", "leases"),
    "Model": ("tidegate.dev/v1alpha1", "models"),
    "Pod": ("v1", "pods"),
    "PodDisruptionBudget": ("policy/v1", "poddisruptionbudgets"),
    "Release": ("tidegate.dev/v1alpha1", "releases"),
    "Service": ("v1", "services"),
}


class Cluster:
    """One namespace, with the rights of the pod's service account or else of the kubeconfig; thread-safe.

    `calls` counts calls by (verb, kind). Every method raises Conflict where somebody else wrote first, and
    PlatformError where the server does not answer or does not take it.
    """

    def __init__(self, namespace: str) -> None:
        from kubernetes import client, config

        configuration = client.Configuration()
        try:
            try:
                config.load_incluster_config(configuration)
            except config.ConfigException:
                config.load_kube_config(client_configuration=configuration)
        except config.ConfigException as error:
            raise UserError("cluster", str(error), "a pod's service account, or a kubeconfig (KUBECONFIG)") from None
        configuration.retries = False
        configuration.connection_pool_maxsize = 32
        self.namespace, self.calls = namespace, Counter[tuple[str, str]]()
        self._client, self._counting = client.ApiClient(configuration), threading.Lock()

    def get(self, kind: str, name: str) -> Json | None:
        """The object, None when there is none."""
        return self._call("GET", kind, name, missing_is_none=True)

    def list(self, kind: str, labels: Mapping[str, str] | None = None) -> list[Json]:
        """Every object with these labels; an empty value asks for any."""
        selector = ",".join(f"{key}={value}" if value else key for key, value in (labels or {}).items())
        found = self._call("GET", kind, "", {"labelSelector": selector} if selector else {})
        # a list leaves out what its items are
        return [{"kind": kind, **item} for item in (found or {}).get("items", ())]

    def apply(self, body: Json, part: str = "") -> Json:
        """Make the object have these fields; `metadata.resourceVersion`, where given, must be the one it has.

        part: ``/status`` to write that alone.
        """
        kind, name = body["kind"], body["metadata"]["name"]
        words = {"fieldManager": MANAGER, "force": "true"}
        return self._call("PATCH", kind, name + part, words, body, "application/apply-patch+yaml") or {}

    def merge(self, kind: str, name: str, body: Json) -> Json:
        """Change these fields and no others; `metadata.resourceVersion` as in `apply`."""
        return self._call("PATCH", kind, name, {"fieldManager": MANAGER}, body, "application/merge-patch+json") or {}

    def create(self, body: Json) -> Json:
        """Make it; Conflict where it is there. A field that its kind has not is refused."""
        words = {"fieldManager": MANAGER, "fieldValidation": "Strict"}
        return self._call("POST", body["kind"], "", words, body) or {}

    def replace(self, body: Json) -> Json:
        """Put it in the place of the one with its `metadata.resourceVersion`."""
        return self._call("PUT", body["kind"], body["metadata"]["name"], {"fieldManager": MANAGER}, body) or {}

    def delete(self, found: Json, kind: str, *, foreground: bool = False, exactly: bool = False) -> None:
        """Delete this very object; what is gone stays gone.

        foreground: it stays, marked, until what it owns is gone. exactly: Conflict where it was written since.
        """
        metadata = found["metadata"]
        only = {"uid": metadata["uid"]} | ({"resourceVersion": metadata["resourceVersion"]} if exactly else {})
        options = {
            "kind": "DeleteOptions",
            "apiVersion": "v1",
            "preconditions": only,
            "propagationPolicy": "Foreground" if foreground else "Background",
        }
        self._call("DELETE", kind, metadata["name"], {}, options, missing_is_none=True)

    def _call(
        self, method: str, kind: str, name: str, words: Mapping[str, str] | None = None, body: Json | None = None,
        content: str = "application/json", missing_is_none: bool = False,
    ) -> Json | None:  # fmt: skip
        import urllib3
        from kubernetes.client.exceptions import ApiException

        with self._counting:
            self.calls[method, kind] += 1
        version, plural = _PLURALS[kind]
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        path = f"{root}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")
        query = f"?{urlencode(words)}" if words else ""
        headers = {"Accept": "application/json", "Content-Type": content}
        try:
            answer = self._client.call_api(
                path + query, method, header_params=headers, body=body, auth_settings=["BearerToken"],
                _preload_content=False, _return_http_data_only=True, _request_timeout=SECONDS,
            )  # fmt: skip
            found: Json = json.loads(answer.data)
            return found
        except ApiException as error:
            if error.status == 404 and missing_is_none:
                return None
            called = name or (body or {}).get("metadata", {}).get("name", "")
            what = f"{kind} {called}".rstrip()
            raise (Conflict if error.status == 409 else PlatformError)(f"{what}: {_message(error)}") from None
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise PlatformError(f"API server: {type(error).__name__} at {method} {kind} {name}") from None


def _message(error: Any) -> str:
    try:
        return " ".join(str(json.loads(error.body)["message"]).split())[:300]
    except (ValueError, KeyError, TypeError):
        return f"status {error.status}: {error.reason}"
