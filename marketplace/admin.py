"""Django admin for staff: records to look at. Work happens through the staff operations.

Nothing can be added, changed or deleted here, superusers included: an edited row would pass by
the rules, the ledger and the audit trail. Secrets and their hashes are left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from marketplace import models

_HIDDEN = {
    "password",
    "secret_hash",
    "answer",
    "request_hash",
    "value_sealed",
    "password_sealed",
    "env_sealed",
    "secret_sealed",
    "code_hash",
    "previous_sealed",
}


if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin


class Records(_ModelAdmin):
    """A read-only list and page of a model."""

    columns: ClassVar[tuple[str, ...]] = ()
    list_per_page = 50
    show_full_result_count = False
    ordering = ("-pk",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        return [
            field.name
            for field in self.model._meta.get_fields()
            if field.concrete and not field.many_to_many and field.name not in _HIDDEN
        ]


def _register(
    model: type[Model],
    columns: tuple[str, ...],
    *,
    filters: tuple[str, ...] = (),
    search: tuple[str, ...] = (),
) -> None:
    shape = {
        "list_display": columns,
        "list_filter": filters,
        "search_fields": search,
        "list_select_related": True,
    }
    admin.site.register(model, type(f"{model.__name__}Records", (Records,), shape))


_register(
    models.User,
    ("email", "name", "email_verified_at", "is_staff", "is_active"),
    filters=("is_staff", "is_active"),
    search=("email", "name"),
)
_register(
    models.Organization,
    ("name", "state", "quota_gpus", "created_at"),
    filters=("state",),
    search=("name", "memberships__user__email"),
)
_register(models.SecondFactor, ("user", "offered_at"))
_register(models.RecoveryCode, ("user", "used_at"))
_register(models.Membership, ("user", "organization", "role"), filters=("role",))
_register(
    models.Invitation,
    ("email", "organization", "role", "expires_at", "accepted_at"),
    search=("email",),
)
_register(models.Letter, ("event", "organization", "cause", "created_at", "posted_at"))
_register(models.Project, ("name", "organization", "created_at"))
_register(models.ApiKey, ("name", "organization", "created_by", "expires_at", "revoked_at"))
_register(models.SshKey, ("name", "organization", "fingerprint"), search=("fingerprint",))
_register(models.Secret, ("name", "organization", "created_by", "updated_at"))
_register(models.RegistryCredential, ("registry", "username", "organization", "updated_at"))
_register(
    models.Provider, ("organization", "state", "ownership", "approved_at"), filters=("state",)
)
_register(models.DataCenter, ("name", "provider", "region", "country"), filters=("region",))
_register(
    models.Offer,
    ("id", "provider", "datacenter", "state", "price_micro_h"),
    filters=("state", "ownership", "region"),
)
_register(models.PriceVersion, ("offer", "number", "price_micro_h", "from_at", "actor"))
_register(
    models.SavedSearch, ("name", "organization", "created_by", "notify", "is_there", "told_at")
)
_register(models.CardSample, ("accelerator", "hour", "slots_free", "slots_total", "lowest_micro"))
_register(models.Template, ("slug", "name", "organization", "active"), filters=("active",))
_register(models.Quote, ("id", "organization", "offer", "gpus", "expires_at", "used_at"))
_register(
    models.Rental,
    ("id", "organization", "name", "state", "reason", "accelerator", "gpus", "created_at"),
    filters=("state", "accelerator"),
    search=("id", "name", "organization__name"),
)
_register(models.RentalEvent, ("rental", "seq", "at", "state", "reason", "actor"))
_register(
    models.AuditEntry,
    ("ts", "actor", "action", "object"),
    filters=("action",),
    search=("actor", "object"),
)
_register(models.EmailToken, ("user", "purpose", "created_at", "sent_at", "used_at", "attempts"))
_register(
    models.WebhookEndpoint,
    ("id", "organization", "url", "state", "reason", "failing_since", "deleted_at"),
    filters=("state", "reason"),
    search=("url", "organization__name"),
)
_register(models.WebhookEvent, ("id", "organization", "type", "cause", "created_at"))
_register(
    models.WebhookDelivery,
    ("id", "event", "endpoint", "state", "reason", "attempts", "next_at", "response_code"),
    filters=("state", "reason"),
)
_register(models.Switch, ("name", "cluster_ref", "on_at", "on_by", "off_at"), filters=("name",))
