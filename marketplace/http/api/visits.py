"""Who came into a rental's machines, by SSH or in the portal: from where, when, how much."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.ids import public
from kernel.text import rfc3339
from marketplace.accounts.access import visible
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import Shown
from marketplace.http.api.schema import paged
from marketplace.models import SshKey
from marketplace.rentals import read
from provisioner.contracts.access import VisitView
from provisioner.facade import access

# Older ones are kept; nobody pages further by hand.
_LATEST = 1000


class VisitOut(Shown):
    """One connection. Null ``ended_at``: it is open, or its gateway was killed."""

    id = serializers.CharField()
    instance = serializers.CharField()
    via = serializers.CharField(help_text="ssh, or portal: its terminal")
    user = serializers.CharField(allow_null=True, help_text="Who it was, at the portal")
    fingerprint = serializers.CharField(
        allow_null=True, help_text="Of the key, as ssh-keygen -l prints it; null at the portal"
    )
    ssh_key = serializers.CharField(allow_null=True, help_text="Where it is one of yours")
    ssh_key_name = serializers.CharField(allow_null=True)
    address = serializers.CharField(allow_null=True, help_text="Null at the portal")
    began_at = serializers.CharField()
    ended_at = serializers.CharField(allow_null=True)
    bytes_in = serializers.IntegerField(help_text="To the machine, as they were on the line")
    bytes_out = serializers.IntegerField()
    why = serializers.CharField(help_text="What ended it, where we did; otherwise empty")


class RentalVisits(ApiView):
    """Who came in, newest first; the latest thousand."""

    scopes = {"GET": "rentals:read"}
    lists = True

    @extend_schema(responses={200: paged(VisitOut)})
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        principal = self.principal(request)
        rental = read.get(principal, rental_id)
        rows = access.visits(rental_ref=rental.pk, limit=_LATEST)
        prints = {row.fingerprint for row in rows if row.fingerprint}
        keys = {
            key.fingerprint: key
            for key in visible(SshKey, principal).filter(fingerprint__in=prints)
        }
        return self.page_of(
            request,
            rows,
            lambda row: _shown(row, keys.get(row.fingerprint or "")),
            key=lambda row: public("visit", row.id),
            descending=True,
        )


def _shown(row: VisitView, key: SshKey | None) -> dict[str, Any]:
    return {
        "id": public("visit", row.id),
        "instance": public("instance", row.instance_id),
        "via": "portal" if row.user_ref else "ssh",
        "user": public("user", row.user_ref) if row.user_ref else None,
        "fingerprint": row.fingerprint,
        "ssh_key": key.public_id if key else None,
        "ssh_key_name": key.name if key else None,
        "address": row.address,
        "began_at": rfc3339(row.began_at),
        "ended_at": rfc3339(row.ended_at),
        "bytes_in": row.bytes_in,
        "bytes_out": row.bytes_out,
        "why": row.why,
    }


urls = [path("rentals/<str:rental_id>/visits", RentalVisits.as_view())]
