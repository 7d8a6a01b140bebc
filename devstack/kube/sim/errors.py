"""Refusals as the API server words them: HTTP status, `reason`, and a message for clients."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]


class StatusError(Exception):
    """An answer of kind Status. `retry_after_s` becomes the header of that name."""

    def __init__(
        self, code: int, reason: str, message: str, *, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s

    def body(self) -> Json:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }


def unauthorized() -> StatusError:
    return StatusError(401, "Unauthorized", "Unauthorized")


def forbidden(resource: str, name: str, why: str) -> StatusError:
    shown = f'{resource} "{name}"' if name else resource
    return StatusError(403, "Forbidden", f"{shown} is forbidden: {why}")


def not_found(resource: str, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{resource} "{name}" not found')


def no_such_path() -> StatusError:
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def not_allowed() -> StatusError:
    message = "the server does not allow this method on the requested resource"
    return StatusError(405, "MethodNotAllowed", message)


def exists(resource: str, name: str) -> StatusError:
    return StatusError(409, "AlreadyExists", f'{resource} "{name}" already exists')


def conflict(resource: str, name: str, why: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {resource} "{name}": {why}'
    return StatusError(409, "Conflict", message)


def modified(resource: str, name: str) -> StatusError:
    """The writer's resourceVersion is not the present one."""
    why = "the object has been modified; please apply your changes to the latest version and try "
    return conflict(resource, name, why + "again")


def expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def bad_request(message: str) -> StatusError:
    return StatusError(400, "BadRequest", message)


def invalid(kind: str, name: str, why: str) -> StatusError:
    return StatusError(422, "Invalid", f'{kind} "{name}" is invalid: {why}')


def not_simulated(what: str) -> StatusError:
    """The real server has it, this one does not: said so instead of made up."""
    return StatusError(501, "NotImplemented", f"the simulated server does not have {what}")
