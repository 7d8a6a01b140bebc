"""Users of container registries, for images that not everybody may pull.

Registry and user name are shown, so that people can tell them apart; the password goes in and
never comes out again but to that registry and into the pull secret of a pod.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from django.db import IntegrityError, transaction

from kernel.clock import now
from kernel.errors import InvalidRequest
from kernel.text import clean
from marketplace.accounts import audit, vault
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.images.reference import BadReference, config_key, parse_registry
from marketplace.models import RegistryCredential

LIMIT: Final = 50
_FIELD: Final = "registry.password"
_MAX_USERNAME: Final = 255


@dataclass(frozen=True)
class Login:
    """A credential in clear, for one call or one order."""

    registry: str
    username: str
    password: str = field(repr=False)

    def pull_secret(self) -> dict[str, str]:
        """As a pod's order takes it."""
        return {
            "registry": config_key(self.registry),
            "username": self.username,
            "password": self.password,
        }


def create_credential(
    *, acting: Principal, registry: str, username: str, password: str
) -> RegistryCredential:
    """Store one; joins the caller's transaction. Raises InvalidRequest, quota_exceeded."""
    host = _registry(registry)
    _check_username(username)
    vault.check_value(password, field="password")
    vault.lock_organization(acting)
    count = visible(RegistryCredential, acting).count()
    vault.check_quota(count, LIMIT, what="registry credentials")
    credential = RegistryCredential(
        organization=acting.org, created_by=acting.user, registry=host, username=username
    )
    credential.password_sealed = _seal(credential, password)
    _save(credential)
    _record(acting, "registry_credential.create", credential)
    return credential


def change_credential(
    *,
    acting: Principal,
    credential_id: str,
    username: str | None = None,
    password: str | None = None,
    expected_version: int | None = None,
) -> RegistryCredential:
    """Another user or password of the same registry; running pods keep what they were given.

    Raises NotFound, InvalidRequest, Refusal version_conflict.
    """
    credential = _locked(acting, credential_id)
    vault.check_version(credential.version, expected_version)
    if username is not None:
        _check_username(username)
        credential.username = username
    if password is not None:
        vault.check_value(password, field="password")
        credential.password_sealed = _seal(credential, password)
    if username is None and password is None:
        return credential
    credential.version += 1
    credential.updated_at = now()
    _save(credential)
    _record(acting, "registry_credential.change", credential)
    return credential


def delete_credential(
    *, acting: Principal, credential_id: str, expected_version: int | None = None
) -> RegistryCredential:
    """Forget it; running pods keep their copy, templates that named it name none. NotFound."""
    credential = _locked(acting, credential_id)
    vault.check_version(credential.version, expected_version)
    _record(acting, "registry_credential.delete", credential)
    identifier = credential.id
    credential.delete()
    credential.id = identifier  # so that the answer can still name it
    return credential


def login(credential: RegistryCredential) -> Login:
    """The credential in clear; raises sealed.CannotOpen."""
    password = vault.unseal(
        credential.password_sealed,
        organization_id=credential.organization_id,
        row_id=credential.id,
        field=_FIELD,
    )
    return Login(credential.registry, credential.username, password)


def check_registry(credential: RegistryCredential, registry: str, *, field: str) -> None:
    """Raise InvalidRequest when an image comes from another registry than the credential's."""
    if credential.registry != registry:
        raise InvalidRequest(
            {field: [f"they are for {credential.registry}; the image comes from {registry}"]}
        )


def _locked(acting: Principal, credential_id: str) -> RegistryCredential:
    rows = RegistryCredential.objects.select_for_update(of=("self",))
    return get_visible(rows, acting, credential_id)


def _registry(text: str) -> str:
    try:
        return parse_registry(text)
    except BadReference as error:
        raise InvalidRequest({"registry": [str(error)]}) from error


def _check_username(username: str) -> None:
    """A colon would end the user name in the header that carries both."""
    if not username or len(username) > _MAX_USERNAME or clean(username, limit=300) != username:
        raise InvalidRequest({"username": [f"1 to {_MAX_USERNAME} plain characters"]})
    if ":" in username:
        raise InvalidRequest({"username": ["must not hold a colon"]})


def _seal(credential: RegistryCredential, password: str) -> bytes:
    return vault.seal(
        password,
        organization_id=credential.organization_id,
        row_id=credential.id,
        field=_FIELD,
    )


def _save(credential: RegistryCredential) -> None:
    try:
        with transaction.atomic():
            credential.save()
    except IntegrityError as error:
        known = f"there is this user of {credential.registry} already"
        raise InvalidRequest({"username": [known]}) from error


def _record(acting: Principal, action: str, credential: RegistryCredential) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=credential.public_id,
        organization_ref=acting.owner_ref,
        details={"registry": credential.registry, "username": credential.username},
    )
