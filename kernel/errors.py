"""Errors with an owner: what happened, whose fault it is, what to do next.

:class:`Refusal` is what a domain action raises when it will not do a thing; the HTTP edge turns
its slug into a problem type. :class:`VendorError` is what the modules that speak to a cluster or
to Stripe raise; loops decide by its class whether to retry, give up, or look first.
"""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A domain action refused. Nothing was stored.

    slug: a problem type of the HTTP contract, e.g. ``"offer_taken"``.
    detail: a sentence for people: what happened, whose fault, what next.
    extra: the further fields that the contract names for this type; JSON-ready values.
    """

    def __init__(self, slug: str, detail: str, **extra: Any) -> None:
        super().__init__(detail)
        self.slug = slug
        self.detail = detail
        self.extra = extra


class InvalidRequest(Refusal):
    """422 with a message per field: ``InvalidRequest({"gpus": ["at least 1"]})``."""

    def __init__(self, fields: dict[str, list[str]], detail: str | None = None) -> None:
        named = ", ".join(sorted(fields))
        super().__init__(
            "invalid_request",
            detail or f"The request has mistakes in: {named}. Correct them and send it again.",
            errors=fields,
        )


class NotFound(Refusal):
    """Unknown or another organization's: the two are never told apart."""

    def __init__(self, what: str = "object") -> None:
        super().__init__("not_found", f"There is no such {what} among yours. Check the id.")


class VendorError(Exception):
    """A call to a cluster or to Stripe did not return a usable answer."""


class TemporaryError(VendorError):
    """Nothing happened there; the same call may succeed after ``delay`` seconds."""

    def __init__(self, message: str, *, delay: float = 1.0) -> None:
        super().__init__(message)
        self.delay = delay


class PermanentError(VendorError):
    """Nothing happened there and repeating the same call cannot help.

    code: a short word a reader can act on, e.g. ``"unauthorized"``, ``"card_declined"``.
    """

    def __init__(self, message: str, *, code: str = "refused") -> None:
        super().__init__(message)
        self.code = code


class UnknownOutcome(VendorError):
    """It may or may not have happened: look before doing it again."""
