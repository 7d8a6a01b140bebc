"""Service-account tokens: signed, with an end. Issued and checked by the server itself."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Any

from devstack.kube.sim.rules.rbac import AUTHENTICATED, User

Json = dict[str, Any]

ISSUER = "https://kubernetes.default.svc"
# The shortest life that a real server grants.
SHORTEST_S = 600


class Tokens:
    """JSON web tokens under a key of this server's own."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def issue(self, account: Json, *, now: float, seconds: int) -> str:
        """A token of a ServiceAccount object, valid for `seconds`."""
        metadata = account["metadata"]
        claims = {
            "aud": [ISSUER],
            "exp": int(now) + seconds,
            "iat": int(now),
            "nbf": int(now),
            "iss": ISSUER,
            "kubernetes.io": {
                "namespace": metadata["namespace"],
                "serviceaccount": {"name": metadata["name"], "uid": metadata["uid"]},
            },
            "sub": _subject(metadata["namespace"], metadata["name"]),
        }
        signed = f"{_encoded({'alg': 'HS256', 'typ': 'JWT'})}.{_encoded(claims)}"
        return f"{signed}.{self._signature(signed)}"

    def claims_of(self, token: str, *, now: float) -> Json | None:
        """The claims of a token of ours that has not ended, else None."""
        signed, _, signature = token.rpartition(".")
        if not hmac.compare_digest(self._signature(signed).encode(), signature.encode()):
            return None
        claims: Json = json.loads(base64.urlsafe_b64decode(signed.partition(".")[2] + "=="))
        return claims if claims["exp"] > now else None

    def _signature(self, signed: str) -> str:
        return _text(hmac.digest(self._key, signed.encode(), hashlib.sha256))


def user_of(claims: Json) -> User:
    """The identity that roles are bound to."""
    namespace = claims["kubernetes.io"]["namespace"]
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(claims["sub"], groups)


def _subject(namespace: str, name: str) -> str:
    return f"system:serviceaccount:{namespace}:{name}"


def _encoded(value: Json) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
