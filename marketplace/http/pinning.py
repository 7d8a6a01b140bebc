"""Images by tag become images by digest, before anything is stored: the web's one network call.

It happens in the request because the answer must say at once that an image does not exist, and
before the transaction because nothing may be held while a stranger's server is waited for. It is
the last thing looked at: whoever may not rent, or sent a body with mistakes, costs no call.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from kernel.errors import InvalidRequest
from marketplace.accounts import registry_credentials
from marketplace.accounts.access import Principal, get_visible
from marketplace.http import ratelimit
from marketplace.http.problems import rate_limited
from marketplace.images.reference import BadReference, parse
from marketplace.images.resolve import digest_of
from marketplace.models import RegistryCredential
from marketplace.rentals.order import RentOrder, check

_FIELD: Final = "registry_credentials"
# Request tokens for one lookup, as much as a mail: strangers' servers are asked in our name.
_COST: Final = 10.0


def pin_order(acting: Principal, order: RentOrder) -> RentOrder:
    """The order with its image by digest. Raises like :func:`pinned`, and for mistakes in it."""
    if order.image is None:
        return order
    check(order)
    return replace(order, image=pinned(acting, order.image, order.registry_credentials))


def pinned(acting: Principal, image: str, credential_id: str | None) -> str:
    """``name:tag@sha256:…`` for an image; one that has a digest is taken as it is, unasked.

    Raises InvalidRequest with a reason for what the registry said, NotFound for credentials,
    Refusal email_unverified, account_frozen, address_forbidden, rate_limited, unavailable.
    """
    try:
        reference = parse(image)
    except BadReference as error:
        raise InvalidRequest({"image": [str(error)]}) from error
    if reference.digest is not None:
        return image
    acting.require_verified()
    acting.require_unfrozen()
    _throttle(acting)
    login = None
    if credential_id is not None:
        credential = get_visible(RegistryCredential, acting, credential_id)
        registry_credentials.check_registry(credential, reference.registry, field=_FIELD)
        login = registry_credentials.login(credential)
    user = (login.username, login.password) if login else None
    return reference.pinned(digest_of(reference, user=user))


def _throttle(acting: Principal) -> None:
    wait = ratelimit.requests.take(str(acting.key.pk if acting.key else acting.user.pk), _COST)
    if wait:
        raise rate_limited(wait)
