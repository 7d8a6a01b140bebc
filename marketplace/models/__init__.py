"""The marketplace's tables. Import models from here."""

from marketplace.models.audit import AuditEntry, AuditSeal
from marketplace.models.budget import Budget
from marketplace.models.dunning import Dunning
from marketplace.models.funds import FundsWatch
from marketplace.models.listing import Offer, PriceVersion, Template
from marketplace.models.organization import (
    ApiKey,
    EmailToken,
    IdempotencyKey,
    Membership,
    Organization,
    Project,
    SshKey,
    User,
)
from marketplace.models.provider import DataCenter, Provider
from marketplace.models.rental import Quote, Rental, RentalEvent
from marketplace.models.second_factor import RecoveryCode, SecondFactor
from marketplace.models.secret import RegistryCredential, Secret
from marketplace.models.supply import AbuseReport, Maintenance
from marketplace.models.switch import Switch
from marketplace.models.volume import RentalVolume, Volume, VolumeMeter
from marketplace.models.webhook import WebhookDelivery, WebhookEndpoint, WebhookEvent

__all__ = [
    "AbuseReport",
    "ApiKey",
    "AuditEntry",
    "AuditSeal",
    "Budget",
    "DataCenter",
    "Dunning",
    "EmailToken",
    "FundsWatch",
    "IdempotencyKey",
    "Maintenance",
    "Membership",
    "Offer",
    "Organization",
    "PriceVersion",
    "Project",
    "Provider",
    "Quote",
    "RecoveryCode",
    "RegistryCredential",
    "Rental",
    "RentalEvent",
    "RentalVolume",
    "SecondFactor",
    "Secret",
    "SshKey",
    "Switch",
    "Template",
    "User",
    "Volume",
    "VolumeMeter",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
]
