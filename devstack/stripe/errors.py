"""Stripe's errors: status, type, code, and the JSON body that the SDK turns into exceptions."""

from typing import Any


class StripeError(Exception):
    """An answer that is not a success.

    `keeps_effects` is True where Stripe keeps what was written before the error (a declined
    charge stays on record); every other error leaves no trace in the store.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        code: str | None = None,
        param: str | None = None,
        keeps_effects: bool = False,
        **more: Any,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.kind = kind
        self.code = code
        self.param = param
        self.keeps_effects = keeps_effects
        self.more = more

    def body(self) -> dict[str, Any]:
        """The JSON answer; absent members are left out as Stripe leaves them out."""
        error: dict[str, Any] = {"type": self.kind, "message": self.message}
        error |= {"code": self.code, "param": self.param, **self.more}
        return {"error": {k: v for k, v in error.items() if v is not None}}


def invalid_request(
    message: str, *, param: str | None = None, code: str | None = None, **more: Any
) -> StripeError:
    """400: the caller's mistake."""
    return StripeError(400, message, code=code, param=param, **more)


def no_such(kind: str, identifier: str, *, param: str, status: int = 400) -> StripeError:
    """An id that does not exist: 404 when it is in the path, 400 when it is a parameter."""
    return StripeError(
        status, f"No such {kind}: '{identifier}'", code="resource_missing", param=param
    )


def not_simulated(what: str) -> StripeError:
    """501: Stripe has it and the simulator does not. Never answered with a made-up success."""
    return StripeError(
        501,
        f"Stripe has {what}, this simulator does not: extend devstack/stripe or use a Stripe "
        "sandbox.",
        kind="api_error",
        code="not_simulated",
    )
