"""Who may come in to a rental's machine, by which ports, whether the way in was proven, who came.

Keys of people belong to the marketplace; here are the fingerprints that the gateway compares with,
so that a key that is taken away closes its door within seconds and no pod has to be touched.
"""

from __future__ import annotations

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Q, Value

from kernel.ids import new_id
from provisioner.models.instance import Instance


class Entry(models.Model):
    """One row per rental that has not ended. authorized: ``SHA256:...``, as ssh-keygen prints.

    ports: those with a name, [{"port": 8888, "access_mode": "token", "protocol": "http"}], or with
    a number of RawPort's where the protocol is tcp. token_version: another one ends what links and
    cookies of the one before opened.
    """

    rental_ref = models.UUIDField(primary_key=True)
    authorized = ArrayField(models.CharField(max_length=60), default=list)
    changed_at = models.DateTimeField()
    # With defaults in the database: the version before this one inserts rows without them.
    ports = models.JSONField(default=list, db_default=Value([], models.JSONField()))
    token_version = models.PositiveIntegerField(default=1, db_default=1)


class RawPort(models.Model):
    """A number at the gateway's address that leads to a port of a rental's machines, or is free."""

    public_port = models.PositiveIntegerField(primary_key=True)
    rental_ref = models.UUIDField(null=True)
    port = models.PositiveIntegerField(null=True)
    freed_at = models.DateTimeField(null=True)  # None: nobody has had it yet

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rental_ref", "port"],
                condition=Q(rental_ref__isnull=False),
                name="rawport_once",
            ),
            models.CheckConstraint(
                condition=Q(rental_ref__isnull=True, port__isnull=True)
                | Q(rental_ref__isnull=False, port__isnull=False),
                name="rawport_whole",
            ),
        ]


class WayIn(models.Model):
    """Whether a machine was entered as a renter would: from outside, by the published address and
    host key. error: of the last try, "" when it went well."""

    instance = models.OneToOneField(
        Instance, on_delete=models.CASCADE, primary_key=True, related_name="way_in"
    )
    tried_at = models.DateTimeField()
    proven_at = models.DateTimeField(null=True)  # the first time
    failures = models.PositiveIntegerField(default=0)  # in a row
    error = models.CharField(max_length=200, default="")


class Visit(models.Model):
    """One connection through the gateway: who, from where, when, how much; never what.

    A terminal of the portal has a user_ref instead of fingerprint ("") and address: it comes from
    the streams process, whose address says nothing of the person.
    """

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    rental_ref = models.UUIDField()
    instance = models.ForeignKey(
        Instance, on_delete=models.CASCADE, related_name="visits", db_index=False
    )
    fingerprint = models.CharField(max_length=60)
    user_ref = models.UUIDField(null=True)
    address = models.GenericIPAddressField(null=True)
    began_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)  # None: open, or its gateway was killed
    bytes_in = models.BigIntegerField(default=0)  # from the renter
    bytes_out = models.BigIntegerField(default=0)
    why = models.CharField(max_length=200, default="")  # it ended, where we ended it

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(ended_at__isnull=True) | Q(ended_at__gte=F("began_at")),
                name="visit_ends_after_it_began",
            ),
        ]
        indexes = [
            models.Index(fields=["rental_ref", "began_at"], name="visit_rental"),
            models.Index(fields=["began_at"], name="visit_age"),
        ]
