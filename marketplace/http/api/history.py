"""What happened to rentals and what it cost: events, charges, and the evidence behind each."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.money import CURRENCY
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import IdOut, MoneyOut, Shown, moment, one_of, shown
from marketplace.http.api.schema import paged as pages
from marketplace.rentals import certificate, read
from marketplace.rentals.present import describe_charge, describe_event, describe_evidence
from marketplace.rentals.state import STATES

_TYPES = sorted(f"rental.{state}" for state in STATES)


class EventOut(Shown):
    """One step of a rental's life, with its reason, actor and evidence."""

    id = serializers.CharField()
    type = serializers.CharField(help_text="As in webhooks: rental. and the state")
    seq = serializers.IntegerField()
    at = serializers.CharField()
    created_at = serializers.CharField()
    rental = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField()
    fault = serializers.CharField(allow_null=True)
    actor = serializers.CharField()
    text = serializers.CharField()
    evidence = serializers.DictField()


class RentalEvents(ApiView):
    """The timeline of a rental, from its first step."""

    scopes = {"GET": "rentals:read"}
    lists = True

    @extend_schema(responses={200: pages(EventOut)})
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        rental = read.get(self.principal(request), rental_id)
        return self.page(request, read.events(rental), describe_event, order=("seq",))


class ProvenCardOut(Shown):
    uid = serializers.CharField(help_text="As the vendor's tool names it")
    model = serializers.CharField()
    memory_mib = serializers.IntegerField(allow_null=True, help_text="Null of a part: see model")


class ProvenMachineOut(Shown):
    instance = serializers.CharField()
    fingerprint = serializers.CharField()
    driver = serializers.CharField(allow_null=True)
    cuda_max = serializers.CharField(allow_null=True)
    proven_at = serializers.CharField()
    cards = ProvenCardOut(many=True)


class CertificateOut(Shown):
    """Whether all cards of a rental are of one kind. ``basis`` says what each statement rests on:
    measured in the machine, a label of its node, our registry, or what was reserved."""

    rental = serializers.CharField()
    homogeneous = serializers.BooleanField(allow_null=True, help_text="Null: not proven yet")
    differences = serializers.ListField(child=serializers.CharField())
    fingerprint = serializers.CharField(allow_null=True, help_text="As offers of this kind have it")
    accelerator = serializers.CharField()
    partition = serializers.CharField(allow_null=True)
    interconnect = serializers.CharField(allow_null=True)
    gpus = serializers.IntegerField()
    basis = serializers.DictField(child=serializers.CharField())
    machines = ProvenMachineOut(many=True)


class RentalCertificate(ApiView):
    """Which cards the rental runs on, as they were proven when it last began to run, and whether
    they are all of one kind."""

    scopes = {"GET": "rentals:read"}

    @extend_schema(responses={200: CertificateOut})
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        self.filters(request, {})
        return self.show(certificate.certify(read.get(self.principal(request), rental_id)))


class Events(ApiView):
    """What happened to all rentals of the organization, newest first."""

    scopes = {"GET": "rentals:read"}
    lists = True

    @extend_schema(
        parameters=[
            OpenApiParameter("type", str, enum=_TYPES),
            OpenApiParameter("rental", str),
            OpenApiParameter("created_after", str, description="RFC 3339"),
        ],
        responses={200: pages(EventOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        given = self.filters(
            request, {"type": one_of(_TYPES), "rental": str, "created_after": moment}
        )
        found = read.all_events(
            self.principal(request),
            rental_id=given.get("rental"),
            state=given["type"].removeprefix("rental.") if "type" in given else None,
            created_after=given.get("created_after"),
        )
        return self.page(request, found, describe_event)


class ChargeOut(Shown):
    """One unbroken rated window inside one clock hour."""

    id = serializers.CharField()
    kind = serializers.CharField(help_text="gpu, of a rental, or disk, of a volume")
    rental = serializers.CharField(allow_null=True)
    volume = serializers.CharField(allow_null=True)
    seq = serializers.IntegerField()
    # "from" is a word of the language: the field is set below.
    to = serializers.CharField()
    seconds = serializers.IntegerField()
    gpus = serializers.IntegerField()
    size_gib = serializers.IntegerField(allow_null=True, help_text="Of a volume")
    price_per_hour = serializers.CharField()
    amount = serializers.CharField()
    not_charged = serializers.CharField(
        help_text="Of the amount: what no balance covered when it ran out, borne by the platform"
    )
    tax = serializers.CharField()
    currency = serializers.CharField()
    transaction = serializers.CharField()


ChargeOut._declared_fields["from"] = serializers.CharField()


class Charges(ApiView):
    """The usage lines of a rental, oldest first."""

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(responses={200: pages(ChargeOut)})
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        rental = read.get(self.principal(request), rental_id)
        return self.page_of(
            request,
            read.charges(rental),
            lambda charge: describe_charge(charge, rental.currency),
            key=lambda charge: f"{charge.seq:012d}",
        )


class IncidentCreditOut(Shown):
    """``seconds`` of the incident's time, at ``percent`` of the price; before tax."""

    transaction = IdOut("transaction", source="txn_id")
    title = serializers.CharField()
    from_at = serializers.DateTimeField()
    to_at = serializers.DateTimeField()
    seconds = serializers.IntegerField()
    percent = serializers.IntegerField()
    amount = MoneyOut(source="amount_micro")
    created_at = serializers.DateTimeField()


class Credits(ApiView):
    """What a rental was given for incidents, oldest first."""

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(responses={200: pages(IncidentCreditOut)})
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        rental = read.get(self.principal(request), rental_id)
        return self.page_of(
            request,
            read.incident_credits(rental),
            shown(IncidentCreditOut),
            key=lambda row: str(row.txn_id),
        )


class VolumeCharges(ApiView):
    """The usage lines of a volume at all its sizes, oldest first."""

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(responses={200: pages(ChargeOut)})
    def get(self, request: Request, volume_id: str) -> HttpResponse:
        return self.page_of(
            request,
            read.disk_charges(self.principal(request), volume_id),
            lambda found: describe_charge(found[0], CURRENCY, found[1]),
            key=lambda found: f"{found[0].from_at:%Y%m%d%H%M%S}-{found[0].id}",
        )


class Observation(Shown):
    at = serializers.CharField()
    kind = serializers.CharField()


class GapOut(Shown):
    """A stretch that was looked at late; bridged: at most a minute, with the pod unchanged."""

    to = serializers.CharField()
    seconds = serializers.IntegerField()
    bridged = serializers.BooleanField()


GapOut._declared_fields["from"] = serializers.CharField()


class EvidenceOut(Shown):
    """The observations that justify the seconds of a charge."""

    charge = serializers.CharField()
    rental = serializers.CharField(allow_null=True)
    volume = serializers.CharField(allow_null=True)
    to = serializers.CharField()
    seconds = serializers.IntegerField()
    instance = serializers.CharField(allow_null=True)
    interval = serializers.CharField()
    pod_uid = serializers.CharField()
    opened_at = serializers.CharField()
    closed_at = serializers.CharField(allow_null=True)
    close_reason = serializers.CharField(allow_null=True)
    proof = serializers.DictField()
    observations = Observation(many=True)
    gaps = GapOut(many=True)
    unproven_seconds = serializers.IntegerField(help_text="Charged against the rules: 0")


EvidenceOut._declared_fields["from"] = serializers.CharField()


class ChargeEvidence(ApiView):
    """Why these seconds were charged."""

    scopes = {"GET": "billing:read"}

    @extend_schema(responses={200: EvidenceOut})
    def get(self, request: Request, charge_id: str) -> HttpResponse:
        self.filters(request, {})
        charge, size, evidence = read.evidence(self.principal(request), charge_id)
        return self.show(describe_evidence(charge, evidence, size))


urls = [
    path("rentals/<str:rental_id>/events", RentalEvents.as_view()),
    path("rentals/<str:rental_id>/certificate", RentalCertificate.as_view()),
    path("rentals/<str:rental_id>/charges", Charges.as_view()),
    path("rentals/<str:rental_id>/credits", Credits.as_view()),
    path("events", Events.as_view()),
    path("volumes/<str:volume_id>/charges", VolumeCharges.as_view()),
    path("charges/<str:charge_id>/evidence", ChargeEvidence.as_view()),
]
