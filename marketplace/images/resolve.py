"""Which digest a tag means now, in words for whoever gave the tag.

The one door to the registry client. Never inside a transaction, and at most a few at a time: a
registry that hangs holds threads of the web process, and must not get them all.
"""

from __future__ import annotations

import threading
from typing import Final

from django.conf import settings
from django.db import connection

from kernel.addresses import ForbiddenAddress
from kernel.errors import InvalidRequest, Refusal
from marketplace.images.reference import Reference
from marketplace.images.registry import Failure, Registry, Unanswered

# All of one resolution: names, connections, token and manifest. Registries answer in well under
# a second; longer would make renting feel broken when it is only one registry that is.
SECONDS: Final = 5.0
# Of a web process' sixteen threads. Fewer would make one slow registry everybody's; more would let
# it take the catalogue away.
_AT_ONCE: Final = threading.BoundedSemaphore(4)
_PATIENCE: Final = 1.0  # seconds that one more waits for its turn, with a thread of its own

_TEXTS: Final[dict[Failure, str]] = {
    Failure.NOT_FOUND: (
        "{registry} has no {name}. Correct the name or the tag; if it is private, give "
        "registry_credentials"
    ),
    Failure.AUTH: (
        "{registry} does not let us see {name} {how}. Give registry_credentials that may pull it; "
        "some registries answer so for images that do not exist"
    ),
    Failure.UNREACHABLE: (
        "{registry} did not answer ({what}). Not your mistake: try again, or give the image by "
        "digest, which needs no answer"
    ),
    Failure.BAD_ANSWER: (
        "{registry} answered with something that is no registry's answer ({what}). Check the "
        "registry's name, or give the image by digest"
    ),
    Failure.BUSY: (
        "{registry} asks us to wait ({what}). Try again in a minute, or give the image by digest"
    ),
}


def digest_of(reference: Reference, *, user: tuple[str, str] | None = None) -> str:
    """The digest of the manifest, or of the list of manifests, that the tag names now.

    user: name and password for the registry. Raises InvalidRequest that names the field image,
    with ``reason`` image_not_found, image_auth, registry_unreachable, registry_answer or
    registry_busy; Refusal address_forbidden, unavailable.
    """
    if connection.in_atomic_block:
        raise RuntimeError("no network inside a transaction: resolve first, then begin")
    if not _AT_ONCE.acquire(timeout=_PATIENCE):
        raise Refusal(
            "unavailable",
            "Too many images are being looked up at the moment; the fault is ours. Nothing was "
            "stored. Send the same request again, or give the image by digest.",
        )
    try:
        registry = Registry(reference, user=user, networks=settings.GPUYARD_REGISTRY_NETWORKS)
        return registry.digest(seconds=SECONDS)
    except Unanswered as error:
        raise _refused(error.failure, reference, str(error), user) from error
    except ForbiddenAddress as error:
        raise Refusal(
            "address_forbidden",
            f"The registry {reference.registry} is at an address that is not used. {error} "
            "Nothing was stored. Use a public registry, or give the image by digest.",
            errors={"image": [str(error)]},
        ) from error
    finally:
        _AT_ONCE.release()


def _refused(
    failure: Failure, reference: Reference, what: str, user: tuple[str, str] | None
) -> InvalidRequest:
    text = _TEXTS[failure].format(
        registry=reference.registry,
        name=f"{reference.repository}:{reference.tag}",
        how="with these credentials" if user else "without credentials",
        what=what,
    )
    refusal = InvalidRequest({"image": [text]}, f"{text}. Nothing was stored.")
    refusal.extra["reason"] = failure.value
    return refusal
