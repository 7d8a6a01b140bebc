"""What every operation of the API shares: credentials, scopes, bodies, actions, lists.

A view names its scopes per method, reads its body with :meth:`ApiView.body`, and answers through
:meth:`act` (creating and acting POSTs, once per Idempotency-Key), :meth:`change` (PATCH, DELETE:
one transaction) or :meth:`page` (lists). The OpenAPI description follows from the same attributes
(schema.py).
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from typing import Any, ClassVar, TypeVar

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db.models import Model, QuerySet
from django.http import HttpResponse
from rest_framework import serializers
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import NotAuthenticated, ParseError
from rest_framework.parsers import BaseParser
from rest_framework.request import Request
from rest_framework.views import APIView

from kernel.errors import InvalidRequest, NotFound, Refusal
from marketplace.accounts import switches
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import (
    Claim,
    Rendered,
    encode,
    hash_request,
    once,
    stored,
)
from marketplace.http import ratelimit
from marketplace.http.api.paging import keyset_page, listed_page, parse_limit
from marketplace.http.api.schema import CHANGING, OperationSchema
from marketplace.http.problems import flatten, rate_limited

M = TypeVar("M", bound=Model)
T = TypeVar("T")

# Reads one query value; raises ValueError with a sentence when it is not of its kind.
Parse = Callable[[str], Any]
_PAGING = ("cursor", "limit")


class StrictJsonParser(BaseParser):
    """JSON that PostgreSQL can hold: no NaN, no NUL or lone surrogate, no bottomless nesting."""

    media_type = "application/json"
    most_bytes: ClassVar[int] = settings.DATA_UPLOAD_MAX_MEMORY_SIZE

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        raw = stream.read(self.most_bytes + 1)
        if len(raw) > self.most_bytes:
            raise RequestDataTooBig
        try:
            value = json.loads(raw, parse_constant=_no_constant)
            _refuse_unusable(value)
        except (ValueError, RecursionError) as error:
            raise ParseError from error
        return value


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _refuse_unusable(value: Any) -> None:
    """Escapes smuggle in what UTF-8 would refuse, and 1e999 reads as infinity."""
    if isinstance(value, str):
        value.encode()  # a lone surrogate raises UnicodeEncodeError, a ValueError
        if "\0" in value:
            raise ValueError("NUL in a text")
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number out of range")
    elif isinstance(value, list):
        for inner in value:
            _refuse_unusable(inner)
    elif isinstance(value, dict):
        for name, inner in value.items():
            _refuse_unusable(name)
            _refuse_unusable(inner)


# Of a body's unknown fields are named. Looking for what was meant costs a millisecond for each, and
# a body has room for a hundred thousand.
_MOST_UNKNOWN = 20


class Body(serializers.Serializer[Any]):
    """A request body: unknown fields are mistakes, not noise."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, Mapping):
            known = [name for name, field in self.fields.items() if not field.read_only]
            strange = (str(name) for name in data if name not in known)
            unknown = {
                name: [_unknown("field", name, known)] for name in islice(strange, _MOST_UNKNOWN)
            }
            if unknown:
                raise serializers.ValidationError(unknown)
        return super().to_internal_value(data)


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    hint = (
        f' Did you mean "{near[0]}"?' if near else f" Known: {', '.join(sorted(known)) or 'none'}."
    )
    return f"unknown {what}.{hint}"


class ApiView(APIView):
    """Base of every operation.

    scopes: method -> scope; a method left out needs credentials and no scope.
    public: True, or the methods that need no credentials (a GET with a wrong key is still 401).
    lists: GET answers ``{"items", "next_cursor"}``. keyed: POST needs an Idempotency-Key.
    cost: request tokens per call; dear ones are those a stranger could abuse.
    open_while_read_only: its changes go on while the platform only shows.
    """

    scopes: ClassVar[dict[str, str]] = {}
    public: ClassVar[bool | frozenset[str]] = False
    lists: ClassVar[bool] = False
    keyed: ClassVar[bool] = True
    cost: ClassVar[float] = 1.0
    open_while_read_only: ClassVar[bool] = False

    parser_classes = (StrictJsonParser,)
    http_method_names = ["get", "post", "patch", "put", "delete", "head"]
    schema = OperationSchema()

    _filters: dict[str, Any] | None = None

    # -- who ---------------------------------------------------------------------------------

    def principal(self, request: Request) -> Principal:
        """The caller; NotAuthenticated (401) when nobody is signed in."""
        user: Any = request.user
        if not isinstance(user, Principal):
            raise NotAuthenticated
        return user

    @classmethod
    def is_public(cls, method: str) -> bool:
        """Whether the method may be called by anybody."""
        return cls.public if isinstance(cls.public, bool) else method in cls.public

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Nobody's credentials matter where strangers act: a stale cookie must not stop them."""
        method = self.request.method if self.request else None
        if method == "POST" and self.is_public(method):
            return []
        return list(super().get_authenticators())

    def check_permissions(self, request: Request) -> None:
        """401 without credentials where they are needed, 403 without the method's scope."""
        method = "GET" if request.method == "HEAD" else str(request.method)
        if self.is_public(method):
            return
        principal = self.principal(request)
        if method in self.scopes:
            principal.require(self.scopes[method])

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """The checks above; and an id that PostgreSQL could not even compare does not exist."""
        super().initial(request, *args, **kwargs)
        if any("\0" in value for value in kwargs.values() if isinstance(value, str)):
            raise NotFound
        if request.method in CHANGING and not self.open_while_read_only:
            self._refuse_while_read_only(request)

    def _refuse_while_read_only(self, request: Request) -> None:
        """503 while the platform only shows; what was answered before is answered again."""
        refusal = switches.read_only()
        if refusal is None:
            return
        repeatable = request.method == "POST" and self.keyed and not self.is_public("POST")
        if repeatable and stored(self.claim(request)) is not None:
            return
        switches.HELD.labels(switches.READ_ONLY, "request").inc()
        raise refusal

    def check_throttles(self, request: Request) -> None:
        user: Any = request.user
        if isinstance(user, Principal):
            name = str(user.key.pk) if user.key else str(user.user.pk)
        else:
            name = str(request.META.get("REMOTE_ADDR"))
        wait = ratelimit.requests.take(name, self.cost)
        if wait:
            raise rate_limited(wait)

    # -- in ----------------------------------------------------------------------------------

    def body(self, serializer_class: type[serializers.Serializer[Any]]) -> dict[str, Any]:
        """The validated body; 400 malformed, 422 with a message per field."""
        serializer = serializer_class(data=self.request.data)
        if not serializer.is_valid():
            raise InvalidRequest(flatten(serializer.errors))
        return dict(serializer.validated_data)

    def filters(
        self, request: Request, allowed: Mapping[str, Parse], *, repeatable: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The query parameters by name, parsed; those not given are absent.

        Unknown names and bad values are refused, never dropped. ``repeatable`` ones give lists.
        """
        known = (*allowed, *(_PAGING if self.lists else ()))
        found: dict[str, Any] = {}
        for name, values in request.query_params.lists():
            if name not in known:
                raise _unknown_filter(name, known)
            if len(values) > 1 and name not in repeatable:
                raise _invalid_filter(name, "is given more than once")
            if name in allowed:
                parsed = [_parsed(name, allowed[name], value) for value in values]
                found[name] = parsed if name in repeatable else parsed[0]
        self._filters = found
        return found

    def expected_version(self, request: Request) -> int | None:
        """The version in If-Match, or None without the header."""
        text = request.headers.get("If-Match")
        if text is None:
            return None
        digits = text.strip().strip('"')
        if not (digits.isascii() and digits.isdigit() and len(digits) < 10):
            raise Refusal("malformed", 'If-Match must hold a version such as "3".')
        return int(digits)

    # -- do and answer -----------------------------------------------------------------------

    def claim(self, request: Request) -> Claim:
        """The Idempotency-Key of this request; 400 when it is missing or unusable."""
        key = request.headers.get("Idempotency-Key", "")
        if not key:
            raise Refusal(
                "malformed",
                "The header Idempotency-Key is missing. Send a new random value (a UUID will do) "
                "with each new request, and the same one when you repeat it.",
                header="Idempotency-Key",
            )
        if len(key) > 255 or not key.isascii() or not key.isprintable():
            raise Refusal(
                "malformed",
                "The header Idempotency-Key must be at most 255 printable ASCII characters.",
                header="Idempotency-Key",
            )
        return Claim(
            organization_ref=self.principal(request).owner_ref,
            key=key,
            request_hash=hash_request(
                str(request.method), request.get_full_path(), self.hashed_body(request)
            ),
        )

    def hashed_body(self, request: Request) -> Any:
        """The body as it is remembered with the key: operations that take secrets hide them."""
        return request.data

    def act(
        self,
        request: Request,
        act: Callable[[], T],
        render: Callable[[T], tuple[int, Any]],
        *,
        secret_fields: Sequence[str] = (),
    ) -> HttpResponse:
        """Run an action once per Idempotency-Key and answer with what it rendered."""
        return self.answer(once(self.claim(request), act, render, secret_fields=secret_fields))

    def change(self, act: Callable[[], T], render: Callable[[T], tuple[int, Any]]) -> HttpResponse:
        """Run an action that is harmless to repeat (PATCH, DELETE) in one transaction."""
        return self.answer(once(None, act, render))

    def answer(self, rendered: Rendered) -> HttpResponse:
        """A rendered answer as it is; 204 has no body."""
        body = b"" if rendered.status == 204 else rendered.body
        response = HttpResponse(body, status=rendered.status, content_type="application/json")
        if rendered.replayed:
            response["Idempotency-Replayed"] = "true"
        return response

    def show(self, value: Any, status: int = 200) -> HttpResponse:
        """A JSON answer of a read."""
        return self.answer(Rendered(status, encode(value)))

    def page(
        self,
        request: Request,
        queryset: QuerySet[M],
        serialize: Callable[[M], Any],
        *,
        order: Sequence[str] = ("-id",),
    ) -> HttpResponse:
        """One page of a queryset. Newest first by default: ids sort by creation."""
        cursor, limit = self.paging(request)
        rows, following = keyset_page(queryset, order=order, cursor=cursor, limit=limit)
        return self.show({"items": [serialize(row) for row in rows], "next_cursor": following})

    def page_many(
        self,
        request: Request,
        queryset: QuerySet[M],
        serialize: Callable[[Sequence[M]], list[Any]],
        *,
        order: Sequence[str] = ("-id",),
    ) -> HttpResponse:
        """The same where a page is described as a whole, with one query for all its rows."""
        cursor, limit = self.paging(request)
        rows, following = keyset_page(queryset, order=order, cursor=cursor, limit=limit)
        return self.show({"items": serialize(rows), "next_cursor": following})

    def tagged(self, response: HttpResponse, version: int) -> HttpResponse:
        """The answer with its version as ETag, for If-Match."""
        response["ETag"] = f'"{version}"'
        return response

    def page_of(
        self,
        request: Request,
        items: Sequence[T],
        serialize: Callable[[T], Any],
        *,
        key: Callable[[T], str],
        descending: bool = False,
    ) -> HttpResponse:
        """One page of a short list that another area's door gave, ordered by a unique text."""
        cursor, limit = self.paging(request)
        rows, following = listed_page(
            items, key=key, cursor=cursor, limit=limit, descending=descending
        )
        return self.show({"items": [serialize(row) for row in rows], "next_cursor": following})

    def paging(self, request: Request) -> tuple[str | None, int]:
        """Cursor and limit, after every query parameter was recognized."""
        if self._filters is None:
            self.filters(request, {})
        return request.query_params.get("cursor"), parse_limit(request.query_params.get("limit"))


def _parsed(name: str, parse: Parse, value: str) -> Any:
    if "\0" in value or len(value) > 500:
        raise _invalid_filter(name, "is no usable text")
    try:
        return parse(value)
    except ValueError as error:
        raise _invalid_filter(name, str(error)) from error


def _invalid_filter(name: str, why: str) -> Refusal:
    return Refusal("invalid_filter", f'The filter "{name}" {why}.', filter=name)


def _unknown_filter(name: str, known: Sequence[str]) -> Refusal:
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.0)
    return Refusal(
        "unknown_filter",
        f'There is no filter "{name[:80]}".'
        + (f' The nearest is "{near[0]}".' if near else " This list has none."),
        filter=name[:80],
        nearest=near[0] if near else None,
        allowed=sorted(known),
    )
