"""A request in, an answer out: identity, right, path, verb. No sockets.

`handle` may be called from any thread; requests are served one at a time under the store's lock,
each in some hundred microseconds.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import traceback
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from devstack.kube.sim import admission, kinds
from devstack.kube.sim.clock import stamp
from devstack.kube.sim.errors import (
    StatusError,
    bad_request,
    forbidden,
    invalid,
    no_such_path,
    not_allowed,
    unauthorized,
)
from devstack.kube.sim.kinds import Target, target_of
from devstack.kube.sim.podlogs import LogRequest, PodLogs
from devstack.kube.sim.rules import rbac
from devstack.kube.sim.rules.patches import copied
from devstack.kube.sim.rules.rbac import ANONYMOUS, Attributes, User
from devstack.kube.sim.rules.selectors import selector_of
from devstack.kube.sim.store import Store, Stored
from devstack.kube.sim.tokens import SHORTEST_S, Tokens, user_of
from devstack.kube.sim.verbs import Page, Verbs
from devstack.kube.sim.watches import Watch

Json = dict[str, Any]

VERSION = (1, 20)
GIT_VERSION = "v1.20.2"
# A watch without a limit of its own ends after this; real servers choose 30 to 60 minutes.
LONGEST_WATCH_S = 1800.0


@dataclasses.dataclass(frozen=True)
class Request:
    """What came over the wire. `user` is set when a certificate or the process itself vouches."""

    method: str
    target: str
    body: bytes | Json = b""
    content_type: str = "application/json"
    token: str | None = None
    user: User | None = None

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))


@dataclasses.dataclass(frozen=True)
class Answer:
    """One answer: an object, a page of a list, or JSON made for the moment."""

    status: int
    content: Stored | Page | Json | str

    def text(self) -> bytes:
        if isinstance(self.content, str):
            return self.content.encode()
        if isinstance(self.content, dict):
            return json.dumps(self.content, separators=(",", ":")).encode()
        return self.content.text() if isinstance(self.content, Page) else self.content.text

    def json(self) -> Json:
        """A copy that the caller may change."""
        if isinstance(self.content, str):
            return {"message": self.content}
        if isinstance(self.content, dict):
            return self.content
        made = self.content.json() if isinstance(self.content, Page) else self.content.body
        found: Json = copied(made)
        return found


@dataclasses.dataclass(frozen=True)
class Watching:
    """A watch that was opened: who serves it closes it."""

    watch: Watch
    seconds: float
    bookmarks: bool


class ApiServer:
    """One cluster's server over `store`."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.verbs = Verbs(store)
        self.logs = PodLogs()
        self._tokens = Tokens()
        self._roles = admission.roles_in(store)

    def handle(self, request: Request) -> Answer | Watching | LogRequest:
        """Serve one request; a refusal is an answer too."""
        try:
            with self.store.lock:
                return self._served(request)
        except StatusError as error:
            return Answer(error.code, error.body())
        except Exception:  # noqa: BLE001 - as a real one: a bug costs one request, and is logged
            traceback.print_exc()
            slip = StatusError(500, "InternalError", "the simulated server failed; see its log")
            return Answer(slip.code, slip.body())

    def compact(self) -> None:
        """Forget history and open pages: whoever lags behind gets 410."""
        with self.store.lock:
            self.store.compact()
            self.verbs.forget_pages()

    def _served(self, request: Request) -> Answer | Watching | LogRequest:
        user = self._identified(request)
        if request.path in rbac.PUBLIC_PATHS:
            return _public(request.path)
        target = target_of(request.path)
        if target is None:
            if rbac.MASTERS in user.groups:
                raise no_such_path()
            why = f'User "{user.name}" cannot {request.method.lower()} path "{request.path}"'
            raise forbidden(request.path, "", why)
        query = request.query
        verb = _verb(request.method, target, query)
        asked = Attributes(verb, target.group, target.resource, target.namespace, target.name)
        if not rbac.allowed(user, asked, self._roles):
            key = target.plural + (f".{target.group}" if target.group else "")
            raise forbidden(key, target.name, rbac.refusal(user, asked))
        if target.kind is None:
            raise no_such_path()
        return self._act(verb, target, query, request, user)

    def _identified(self, request: Request) -> User:
        if request.user is not None:
            return request.user
        if request.token is None:
            return ANONYMOUS
        now = self.store.clock.now().timestamp()
        claims = self._tokens.claims_of(request.token, now=now)
        if claims is None:
            raise unauthorized()
        account = claims["kubernetes.io"]["serviceaccount"]
        stored = self.store.get(
            kinds.ACCOUNTS, claims["kubernetes.io"]["namespace"], account["name"]
        )
        if stored is None or stored.metadata["uid"] != account["uid"]:
            raise unauthorized()
        return user_of(claims)

    def _act(
        self, verb: str, target: Target, query: Mapping[str, str], request: Request, user: User
    ) -> Answer | Watching | LogRequest:
        kind = target.kind
        if target.subresource and (kind is None or target.subresource not in kind.subresources):
            raise no_such_path()
        dry_run = query.get("dryRun") == "All"
        match verb:
            case "get" if target.subresource == "log":
                return self.logs.asked(self.verbs.get(target), query)
            case "get":
                return Answer(200, self.verbs.get(target))
            case "list":
                return Answer(200, self.verbs.page(target, query))
            case "watch":
                return self._watch(target, query)
            case "create" if target.subresource == "token":
                return self._issue(target, _body(request))
            case "create" if kind is kinds.ACCESS_REVIEWS:
                return self._review(user, _body(request))
            case "create" if kind is kinds.RULES_REVIEWS:
                return Answer(201, _rules_of(user, _body(request), self._roles))
            case "create":
                body = _body(request)
                made = self.verbs.create(target, body, user=user, dry_run=dry_run)
                return Answer(201, made)
            case "update":
                return Answer(200, self.verbs.update(target, _body(request), dry_run=dry_run))
            case "patch":
                return Answer(
                    200,
                    self.verbs.patch(
                        target, _body(request), request.content_type, user=user, dry_run=dry_run
                    ),
                )
            case "delete":
                return self._delete(target, query, request, dry_run=dry_run)
        raise not_allowed()

    def _delete(
        self, target: Target, query: Mapping[str, str], request: Request, *, dry_run: bool
    ) -> Answer:
        options = _body(request) if request.body else {}
        if "gracePeriodSeconds" in query:
            options = {"gracePeriodSeconds": int(query["gracePeriodSeconds"]), **options}
        dry_run = dry_run or options.get("dryRun") == ["All"]
        return Answer(200, self.verbs.delete(target, options, dry_run=dry_run))

    def _watch(self, target: Target, query: Mapping[str, str]) -> Watching:
        assert target.kind is not None
        version = query.get("resourceVersion", "")
        if version and not version.isdigit():
            why = f'Invalid value: "{version}": strconv.ParseUint: parsing "{version}"'
            # Not a 400: so says the real one.
            raise StatusError(500, "", f"resourceVersion: {why}: invalid syntax")
        since = int(version) if version not in {"", "0"} else None
        selector = selector_of(target.kind, query)
        if target.name:  # the old way to watch one object
            selector = selector_of(target.kind, {"fieldSelector": f"metadata.name={target.name}"})
        watch = Watch(self.store, target.kind, target.namespace, selector, since)
        seconds = float(query.get("timeoutSeconds") or LONGEST_WATCH_S)
        return Watching(watch, seconds, query.get("allowWatchBookmarks") in {"true", "1"})

    def _issue(self, target: Target, body: Json) -> Answer:
        account = self.verbs.get(target)
        spec = body.get("spec") or {}
        seconds = int(spec.get("expirationSeconds") or 3600)
        if seconds < SHORTEST_S:
            why = (
                f"spec.expirationSeconds: Invalid value: {seconds}: "
                "may not specify a duration less than 10 minutes"
            )
            raise invalid("TokenRequest", target.name, why)
        now = self.store.clock.now()
        token = self._tokens.issue(account.body, now=now.timestamp(), seconds=seconds)
        ends = stamp(now + datetime.timedelta(seconds=seconds))
        head = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1"}
        status = {"token": token, "expirationTimestamp": ends}
        metadata = {"name": target.name, "namespace": target.namespace}
        return Answer(201, {**head, "metadata": metadata, "spec": spec, "status": status})

    def _review(self, user: User, body: Json) -> Answer:
        spec = body.get("spec") or {}
        wanted = spec.get("resourceAttributes")
        if not isinstance(wanted, dict):
            raise invalid("SelfSubjectAccessReview", "", "spec.resourceAttributes: Required value")
        resource = str(wanted.get("resource", ""))
        if wanted.get("subresource"):
            resource += f"/{wanted['subresource']}"
        names = ("group", "namespace", "name", "verb")
        group, namespace, name, verb = (str(wanted.get(key, "")) for key in names)
        asked = Attributes(verb, group, resource, namespace, name)
        allowed = rbac.allowed(user, asked, self._roles)
        head = {"kind": "SelfSubjectAccessReview", "apiVersion": "authorization.k8s.io/v1"}
        return Answer(201, {**head, "metadata": {}, "spec": spec, "status": {"allowed": allowed}})


def _rules_of(user: User, body: Json, roles: rbac.Roles) -> Json:
    spec = body.get("spec") or {}
    if not spec.get("namespace"):
        raise bad_request("no namespace on request")
    found = rbac.rules_of(user, str(spec["namespace"]), roles)
    status = {"resourceRules": found, "nonResourceRules": [], "incomplete": False}
    head = {"kind": "SelfSubjectRulesReview", "apiVersion": "authorization.k8s.io/v1"}
    return {**head, "metadata": {}, "spec": spec, "status": status}


def _verb(method: str, target: Target, query: Mapping[str, str]) -> str:
    if method == "GET":
        watches = query.get("watch") in {"true", "1"} and not target.subresource
        if watches:
            return "watch"
        return "get" if target.name else "list"
    verbs = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
    if method == "DELETE" and not target.name:
        return "deletecollection"
    return verbs.get(method, method.lower())


def _body(request: Request) -> Json:
    if isinstance(request.body, dict):
        made: Json = copied(request.body)
        return made
    try:
        body = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise bad_request(f"the body of the request is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise bad_request("the body of the request is no JSON object")
    return body


def _public(path: str) -> Answer:
    if not path.startswith("/version"):
        return Answer(200, "ok")
    major, minor = VERSION
    version = {"major": str(major), "minor": str(minor), "gitVersion": GIT_VERSION}
    return Answer(200, {**version, "platform": "linux/amd64", "gitTreeState": "clean"})
