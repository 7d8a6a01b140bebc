"""The official client composes each request; our own transport sends it.

The generated client knows every path, parameter and schema: a misspelt field of a pod is refused
here, before any cluster sees it. What it would do by itself while sending (follow redirects, obey
Retry-After, read proxies from the environment, decode megabytes) is what a hostile partner could
use, so its REST layer is replaced by one that only notes the request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from kubernetes import client as official

Json = dict[str, Any]


@dataclass(frozen=True)
class Composed:
    """A request as the official client would send it, without host and credentials."""

    method: str
    path: str
    query: dict[str, str]
    body: Json | None


@dataclass(frozen=True)
class _Noted:
    """What the official client takes for an answer and hands through unread."""

    response: Composed
    status: int = 200


class _Notebook:
    """Stands where the official client keeps its REST layer. Sends nothing."""

    def request(
        self,
        method: str,
        url: str,
        headers: Any = None,
        body: Json | None = None,
        post_params: Any = None,
        _request_timeout: Any = None,
    ) -> _Noted:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        return _Noted(Composed(method, parts.path, query, body))


def _api_client() -> official.ApiClient:
    configuration = official.Configuration()
    configuration.host = "https://composed.invalid"
    configuration.retries = False
    configuration.proxy = None
    client = official.ApiClient(configuration)
    client.rest_client = _Notebook()  # type: ignore[assignment]
    return client


_CLIENT = _api_client()
CORE = official.CoreV1Api(_CLIENT)
COORDINATION = official.CoordinationV1Api(_CLIENT)
AUTHORIZATION = official.AuthorizationV1Api(_CLIENT)
NODES = official.NodeV1Api(_CLIENT)
NETWORKING = official.NetworkingV1Api(_CLIENT)
STORAGE = official.StorageV1Api(_CLIENT)
VERSION = official.VersionApi(_CLIENT)


def compose(operation: Callable[..., Any], *values: Any, **options: Any) -> Composed:
    """The request of an operation, e.g. ``compose(CORE.create_namespaced_pod, "ns", pod)``.

    Raises pydantic.ValidationError when the values do not fit the operation's schema: our mistake,
    not the cluster's.
    """
    composed: Composed = operation(*values, _preload_content=False, **options)
    return composed
