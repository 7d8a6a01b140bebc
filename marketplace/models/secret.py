"""Values an organization stores for its pods: write-only, sealed at rest.

A rental gets a copy, sealed with its instance's order, so neither a new value nor a deletion
changes what already runs.
"""

from __future__ import annotations

from django.db import models

from kernel.clock import AppNow
from marketplace.models.base import PublicObject
from marketplace.models.organization import Organization, User


class Secret(PublicObject):
    """A value for an environment variable."""

    kind = "secret"

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="secrets")
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=128)  # also the variable's usual name
    value_sealed = models.BinaryField()
    updated_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="secret_name_once")
        ]


class RegistryCredential(PublicObject):
    """A user of a container registry, for images that not everybody may pull."""

    kind = "registry_credential"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="registry_credentials"
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    registry = models.CharField(max_length=260)  # as images name it: "docker.io", "host:5000"
    username = models.CharField(max_length=255)
    password_sealed = models.BinaryField()
    updated_at = models.DateTimeField(db_default=AppNow())

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "registry", "username"],
                name="registry_credential_once",
            )
        ]
