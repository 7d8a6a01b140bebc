"""Secrets of an organization: values that go into pods and never come out again.

No action returns a value, and audit rows name the secret only. :func:`take` opens values for one
order; they live as long as that call and are sealed again with the instance's order.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.db import IntegrityError, transaction

from kernel.clock import now
from kernel.errors import InvalidRequest
from marketplace.accounts import audit, vault
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.accounts.variables import name_mistake
from marketplace.models import Secret

LIMIT: Final = 100  # per organization; each is a row that people must still be able to overlook
MAX_USED: Final = 32  # in one rental
# All values of one order; the provisioner's own limit, env included, is 256 KiB.
_MAX_TAKEN: Final = 128 * 1024
_FIELD: Final = "secret.value"


def create_secret(*, acting: Principal, name: str, value: str) -> Secret:
    """Store a value; joins the caller's transaction. Raises InvalidRequest, quota_exceeded."""
    _check_name(name)
    vault.check_value(value, field="value")
    vault.lock_organization(acting)
    vault.check_quota(visible(Secret, acting).count(), LIMIT, what="secrets")
    secret = Secret(organization=acting.org, created_by=acting.user, name=name)
    secret.value_sealed = _seal(secret, value)
    _save(secret)
    _record(acting, "secret.create", secret)
    return secret


def change_secret(
    *,
    acting: Principal,
    secret_id: str,
    name: str | None = None,
    value: str | None = None,
    expected_version: int | None = None,
) -> Secret:
    """Rename or replace; what already runs keeps the value that it was given.

    Raises NotFound, InvalidRequest, Refusal version_conflict.
    """
    secret = _locked(acting, secret_id)
    vault.check_version(secret.version, expected_version)
    if name is not None:
        _check_name(name)
        secret.name = name
    if value is not None:
        vault.check_value(value, field="value")
        secret.value_sealed = _seal(secret, value)
    if name is None and value is None:
        return secret
    secret.version += 1
    secret.updated_at = now()
    _save(secret)
    _record(acting, "secret.change", secret, value_replaced=value is not None)
    return secret


def delete_secret(
    *, acting: Principal, secret_id: str, expected_version: int | None = None
) -> Secret:
    """Forget the value; pods that were given it keep their copy. Raises NotFound."""
    secret = _locked(acting, secret_id)
    vault.check_version(secret.version, expected_version)
    _record(acting, "secret.delete", secret)
    identifier = secret.id
    secret.delete()
    secret.id = identifier  # so that the answer can still name it
    return secret


def take(acting: Principal, wanted: Mapping[str, str]) -> dict[str, str]:
    """Variable -> value for an order's variable -> secret id; raises NotFound, InvalidRequest."""
    values = {}
    for variable, secret_id in wanted.items():
        secret = get_visible(Secret, acting, secret_id)
        values[variable] = vault.unseal(
            secret.value_sealed,
            organization_id=secret.organization_id,
            row_id=secret.id,
            field=_FIELD,
        )
    if sum(len(value.encode()) for value in values.values()) > _MAX_TAKEN:
        raise InvalidRequest({"secrets": [f"at most {_MAX_TAKEN // 1024} KiB of values together"]})
    return values


def _locked(acting: Principal, secret_id: str) -> Secret:
    return get_visible(Secret.objects.select_for_update(of=("self",)), acting, secret_id)


def _seal(secret: Secret, value: str) -> bytes:
    return vault.seal(value, organization_id=secret.organization_id, row_id=secret.id, field=_FIELD)


def _check_name(name: str) -> None:
    mistake = name_mistake(name)
    if mistake:
        raise InvalidRequest({"name": [mistake]})


def _save(secret: Secret) -> None:
    try:
        with transaction.atomic():
            secret.save()
    except IntegrityError as error:
        raise InvalidRequest({"name": ["there is a secret with this name already"]}) from error


def _record(acting: Principal, action: str, secret: Secret, **details: bool) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=secret.public_id,
        organization_ref=acting.owner_ref,
        details={"name": secret.name, **details},
    )
