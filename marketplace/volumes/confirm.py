"""Confirming a loss of data: a token that says "these volumes, as they are now", for ten minutes.

Nothing is stored: the token is a MAC over ids and versions, so it is void as soon as one of the
volumes was changed, and it confirms nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils.crypto import constant_time_compare, salted_hmac

from kernel.errors import Refusal
from marketplace.models import Volume

# Long enough to read a warning twice; a token found later in a log deletes nothing.
LIFETIME: Final = timedelta(minutes=10)
_SALT: Final = "marketplace.volumes.confirm"


def require(volumes: Sequence[Volume], token: str | None, *, at: datetime) -> None:
    """Raise data_loss_confirmation_required, with a fresh token, unless ``token`` confirms it."""
    if token is not None and _accepts(volumes, token, at):
        return
    what = "The confirm_token does not fit or is too old." if token else "Their data would be lost."
    raise Refusal(
        "data_loss_confirmation_required",
        f"{what} Nothing was deleted. To delete what `volumes` lists, for good and without a copy, "
        "repeat the request with `confirm_token` within ten minutes.",
        volumes=[_shown(volume) for volume in volumes],
        confirm_token=issue(volumes, at=at),
    )


def issue(volumes: Sequence[Volume], *, at: datetime) -> str:
    expires = int((at + LIFETIME).timestamp())
    return f"{expires}.{_mac(volumes, expires)}"


def _accepts(volumes: Sequence[Volume], token: str, at: datetime) -> bool:
    expires, _, mac = token.partition(".")
    if not (expires.isascii() and expires.isdigit() and len(expires) < 12):
        return False
    fits = constant_time_compare(mac, _mac(volumes, int(expires)))
    return fits and at.timestamp() <= int(expires)


def _mac(volumes: Sequence[Volume], expires: int) -> str:
    named = sorted(f"{volume.public_id}:{volume.version}" for volume in volumes)
    return salted_hmac(_SALT, f"{expires}|{'|'.join(named)}", algorithm="sha256").hexdigest()


def _shown(volume: Volume) -> dict[str, Any]:
    return {"id": volume.public_id, "name": volume.name, "size_gib": volume.size_gib}
