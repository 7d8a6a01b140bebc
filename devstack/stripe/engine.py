"""One API request from bytes to answer: who, which version, which operation, which key, effect.

The order is Stripe's: authentication, version, route, parameters, idempotency, execution. What
fails before execution is not remembered under the key; what fails during it is.
"""

import json
import sys
import threading
import time
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from devstack.stripe import answers, oracle, sdk_source
from devstack.stripe.core import CONNECTED, Caller, Simulator
from devstack.stripe.errors import StripeError, invalid_request, not_simulated
from devstack.stripe.faults import Cut, Fault, Faults
from devstack.stripe.idempotency import Keys
from devstack.stripe.registry import HANDLERS, only

LOG_KEPT = 5000


@dataclass(frozen=True)
class Request:
    method: str
    target: str  # path and query
    headers: dict[str, str]  # names in lower case
    body: bytes

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    def raw_params(self) -> dict[str, Any]:
        """Parameters as sent, nested; StripeError 400 when they cannot be read."""
        if self.path.startswith("/v2/") and self.method == "POST":
            try:
                value = json.loads(self.body or b"{}")
            except (ValueError, RecursionError):
                raise invalid_request("Invalid JSON in the request body") from None
            if not isinstance(value, dict):
                raise invalid_request("The request body must be a JSON object")
            return value
        text = urlsplit(self.target).query
        if self.method == "POST":
            try:
                text = self.body.decode()
            except UnicodeDecodeError:
                raise invalid_request("The request body is not UTF-8") from None
        return oracle.decode_form(text)


@dataclass
class Answer:
    status: int
    body: dict[str, Any]
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """A request that passed every check and is about to act."""

    request: Request
    request_id: str
    operation: oracle.Operation
    arguments: dict[str, str]
    params: dict[str, Any]
    raw: dict[str, Any]
    key: str | None
    account: str | None  # the connected account that the caller acts for


@dataclass
class Engine:
    """Executes API requests against one account."""

    sim: Simulator
    faults: Faults
    api_key: str
    keys: Keys = field(init=False)
    log: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=LOG_KEPT))

    def __post_init__(self) -> None:
        self.keys = Keys(self.sim.store)
        self._log_lock = threading.Lock()

    def handle(self, request: Request) -> Answer:
        """Answer a request; raises Cut when the connection is to be closed without one."""
        entry: dict[str, Any] = {
            "id": self.sim.new_id("req", 14),
            "method": request.method,
            "path": request.path,
            "idempotency_key": request.headers.get("idempotency-key"),
            "status": None,
            "code": None,
            "replayed": False,
            "at": self.sim.now(),
        }
        with self._log_lock:
            self.log.append(entry)
        try:
            answer = self._answer(request, entry["id"])
        except StripeError as error:
            answer = Answer(error.status, error.body())
        except Cut:
            entry["status"] = "cut"
            raise
        entry["status"] = answer.status
        entry["code"] = answer.body.get("error", {}).get("code") if answer.status >= 400 else None
        entry["replayed"] = "Idempotent-Replayed" in answer.headers
        answer.headers |= {
            "Request-Id": entry["id"],
            "Stripe-Version": sdk_source.api_version(),
        }
        return answer

    def requests(self) -> list[dict[str, Any]]:
        """The last requests, oldest first; `status` is None while one is under way."""
        with self._log_lock:
            return [dict(entry) for entry in self.log]

    def _answer(self, request: Request, request_id: str) -> Answer:
        if self.faults.down == "cut":
            raise Cut
        if self.faults.down == "503":
            raise StripeError(503, "The service is unavailable", kind="api_error")
        self._authenticate(request)
        faults = self.faults.for_request(request.method, request.path)
        for fault in faults:
            _before(fault)
        work = self._resolve(request, request_id)
        if work.key is None:
            return self._act(work, faults)
        stored = self.keys.begin(work.key, request.method, request.path, work.raw, self.sim.now())
        if stored is not None:
            return Answer(
                stored["status"],
                stored["body"],
                {"Idempotent-Replayed": "true", "Idempotency-Key": work.key},
            )
        try:
            return self._act(work, faults)
        finally:
            self.keys.leave(work.key)

    def _authenticate(self, request: Request) -> None:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer" or not given:
            raise StripeError(
                401,
                "You did not provide an API key. You need to provide your API key in the "
                "Authorization header, using Bearer auth.",
            )
        if given != self.api_key:
            raise StripeError(401, f"Invalid API Key provided: {given[:8]}***{given[-4:]}")
        version = request.headers.get("stripe-version")
        if version is not None and version != sdk_source.api_version():
            raise invalid_request(
                f"Invalid Stripe API version: {version}. This account is pinned to "
                f"{sdk_source.api_version()}, the version of stripe {sdk_source.package_version()}."
            )

    def _resolve(self, request: Request, request_id: str) -> Work:
        found = oracle.table().match(request.method, request.path)
        if found is None:
            raise StripeError(
                404,
                f"Unrecognized request URL ({request.method}: {request.path}). Please see "
                "https://stripe.com/docs or we can help at https://support.stripe.com/.",
            )
        operation, arguments = found
        raw = request.raw_params()
        # The SDK follows next_page_url as it is: `page` is no parameter of the call itself.
        token = raw.pop("page", None) if request.path.startswith("/v2/") else None
        params = operation.check(raw) | ({} if token is None else {"page": token})
        key = request.headers.get("idempotency-key") if request.method == "POST" else None
        if request.method == "POST" and not key:
            raise invalid_request(
                "This POST has no Idempotency-Key. Stripe would accept it; the simulator refuses "
                "because a repeat after a lost answer would act twice.",
                code="idempotency_key_missing",
            )
        handler = HANDLERS.get((operation.method, operation.path))
        if handler is None:
            raise not_simulated(f"{operation.method} {operation.path}")
        only(params, " ".join(handler.takes))
        account = self._acting_for(request, connected=handler.connected)
        return Work(request, request_id, operation, arguments, params, raw, key, account)

    def _acting_for(self, request: Request, *, connected: bool) -> str | None:
        given = request.headers.get("stripe-account") or request.headers.get("stripe-context")
        if given is None:
            return None
        if not connected:
            raise not_simulated(f"this operation for a connected account ({given})")
        if self.sim.find(CONNECTED, given) is None:
            raise StripeError(
                403,
                "The provided key does not have access to account "
                f"'{given}' (or that account does not exist).",
                code="account_invalid",
            )
        return given

    def _act(self, work: Work, faults: list[Fault]) -> Answer:
        for fault in faults:
            self._wait(fault, "before")
        forced = next((f.status for f in faults if f.kind == "error_after"), None)
        answer = self._execute(work, forced)
        if work.key is not None:
            answer.headers["Idempotency-Key"] = work.key
        for fault in faults:
            self._wait(fault, "after")
            if fault.kind == "cut_after":
                raise Cut
        return answer

    def _wait(self, fault: Fault, when: str) -> None:
        if fault.kind == f"delay_{when}":
            time.sleep(fault.seconds)
        elif fault.kind == f"hold_{when}":
            self.faults.hold(fault)

    def _execute(self, work: Work, forced: int | None) -> Answer:
        """Run the handler in one transaction with the memory of its key."""
        with self.sim.store.lock:
            self.sim.caller = Caller(work.request_id, work.key)
            try:
                with self.sim.store.transaction():
                    answer = self._run(work)
                    if forced is not None:
                        answer = Answer(forced, _server_error("after the effect"))
                    self._remember(work, answer)
            except StripeError as error:
                # The effects are undone; Stripe remembers the refusal all the same.
                answer = Answer(error.status, error.body())
                with self.sim.store.transaction():
                    self._remember(work, answer)
            finally:
                self.sim.caller = Caller()
        return answer

    def _run(self, work: Work) -> Answer:
        run = HANDLERS[work.operation.method, work.operation.path].run
        params = {k: v for k, v in work.params.items() if k != "expand"}
        sim = self.sim.on(work.account)
        try:
            body = run(sim, params, **work.arguments)
            sim.expand(body, work.params.get("expand", []))
            answers.check(body)
        except StripeError as error:
            if not error.keeps_effects:
                raise
            return Answer(error.status, error.body())
        except Exception as error:
            # A slip of the simulator: loud, and told apart from Stripe's own 500.
            traceback.print_exc(file=sys.stderr)
            raise StripeError(
                500,
                f"the simulator is at fault: {error!r}",
                kind="api_error",
                code="simulator_fault",
            ) from error
        return Answer(200, body)

    def _remember(self, work: Work, answer: Answer) -> None:
        # What is missing or broken here is not an answer of Stripe: the key stays free.
        ours = answer.body.get("error", {}).get("code") in {"not_simulated", "simulator_fault"}
        if work.key is not None and not ours:
            self.keys.remember(
                work.key,
                work.request.method,
                work.request.path,
                work.raw,
                self.sim.now(),
                answer.status,
                answer.body,
            )


def _server_error(when: str) -> dict[str, Any]:
    return {"error": {"type": "api_error", "message": f"A server error was ordered {when}"}}


def _before(fault: Fault) -> None:
    match fault.kind:
        case "rate_limit":
            raise StripeError(429, "Request rate limit exceeded.", code="rate_limit")
        case "error_before":
            raise StripeError(
                fault.status, "A server error was ordered before the effect", kind="api_error"
            )
        case "cut_before":
            raise Cut
