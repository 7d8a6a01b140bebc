"""The marketplace's tables. Import models from here."""

from marketplace.models.audit import AuditEntry, AuditSeal
from marketplace.models.budget import Budget
from marketplace.models.catalogue import CardSample, SavedSearch
from marketplace.models.cost import CardCost
from marketplace.models.desk import Look, ProblemReport, UnmetDemand
from marketplace.models.dunning import Dunning
from marketplace.models.fee import FeeChange
from marketplace.models.funds import FundsWatch
from marketplace.models.incident import Incident, IncidentLine
from marketplace.models.letter import Letter
from marketplace.models.listing import Offer, PriceVersion, Template
from marketplace.models.organization import (
    ApiKey,
    EmailToken,
    IdempotencyKey,
    Invitation,
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
    "CardCost",
    "CardSample",
    "DataCenter",
    "Dunning",
    "EmailToken",
    "FeeChange",
    "FundsWatch",
    "IdempotencyKey",
    "Incident",
    "IncidentLine",
    "Invitation",
    "Letter",
    "Look",
    "Maintenance",
    "Membership",
    "Offer",
    "Organization",
    "PriceVersion",
    "ProblemReport",
    "Project",
    "Provider",
    "Quote",
    "RecoveryCode",
    "RegistryCredential",
    "Rental",
    "RentalEvent",
    "RentalVolume",
    "SavedSearch",
    "SecondFactor",
    "Secret",
    "SshKey",
    "Switch",
    "Template",
    "UnmetDemand",
    "User",
    "Volume",
    "VolumeMeter",
    "WebhookDelivery",
    "WebhookEndpoint",
    "WebhookEvent",
]
