"""Staff's window on the provisioner's records: to look, never to change.

Rows are moved by guarded updates with events; a form that saves a row would break what they keep.
Sealed values and orders are not shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.contrib import admin
from django.db.models import Model
from django.http import HttpRequest

from provisioner.models import (
    Brake,
    Cluster,
    DeletedOrphan,
    DeviceGroup,
    DiskInterval,
    Hold,
    Instance,
    InstanceEvent,
    Namespace,
    Node,
    NodeShare,
    PreflightChange,
    PreflightResult,
    ReadyInterval,
    Slot,
    UnknownPod,
    UnknownVolume,
    Volume,
    VolumeAttachment,
    VolumeEvent,
    VolumeReceipt,
)

if TYPE_CHECKING:
    _ModelAdmin = admin.ModelAdmin[Any]
else:
    _ModelAdmin = admin.ModelAdmin  # generic for the type checker only


class ReadOnly(_ModelAdmin):
    """No adding, changing or deleting, whatever the permissions say."""

    show_full_result_count = False  # counting a large table costs more than the page

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return False


@admin.register(Cluster)
class ClusterAdmin(ReadOnly):
    list_display = (
        "name",
        "state",
        "reason",
        "state_since",
        "last_positive_at",
        "server_version",
        "preflight_state",
        "preflight_passed",
    )
    list_filter = ("state", "preflight_state")
    search_fields = ("name", "api_url")
    exclude = ("token_sealed",)


@admin.register(PreflightResult)
class PreflightResultAdmin(ReadOnly):
    list_display = ("cluster", "rule", "outcome", "measured", "since", "checked_at")
    list_filter = ("outcome", "rule")


@admin.register(PreflightChange)
class PreflightChangeAdmin(ReadOnly):
    list_display = ("at", "cluster", "rule", "before", "outcome", "measured")
    list_filter = ("outcome", "rule")


@admin.register(Namespace)
class NamespaceAdmin(ReadOnly):
    list_display = ("name", "cluster", "tenant_ref", "bound_at", "usable")
    list_filter = ("usable",)


@admin.register(Node)
class NodeAdmin(ReadOnly):
    list_display = ("name", "cluster", "ready", "sellable", "reason", "listed_at")
    list_filter = ("ready", "sellable", "reason")
    search_fields = ("name",)


@admin.register(DeviceGroup)
class DeviceGroupAdmin(ReadOnly):
    list_display = ("accelerator", "cluster", "slots_total", "slots_free", "largest_block")
    list_filter = ("vendor", "listed_ok")
    search_fields = ("accelerator",)


@admin.register(NodeShare)
class NodeShareAdmin(ReadOnly):
    list_display = ("node", "group", "sellable", "slots_total", "slots_free", "short")
    list_filter = ("sellable", "short")
    list_select_related = ("node", "group")


@admin.register(Slot)
class SlotAdmin(ReadOnly):
    list_display = ("id", "share", "number", "state", "reason", "free_at")
    list_filter = ("state",)
    list_select_related = ("share",)


@admin.register(Hold)
class HoldAdmin(ReadOnly):
    list_display = ("slot", "rental_ref", "from_ts", "to_ts")


@admin.register(Instance)
class InstanceAdmin(ReadOnly):
    list_display = ("pod_name", "state", "reason", "desired", "cluster", "created_at", "gone_at")
    list_filter = ("state", "desired")
    list_select_related = ("cluster",)
    search_fields = ("pod_name", "pod_uid")
    exclude = ("order", "secrets_sealed", "claim_token")


@admin.register(InstanceEvent)
class InstanceEventAdmin(ReadOnly):
    list_display = ("instance", "seq", "at", "state", "reason", "fault")
    list_select_related = ("instance",)
    list_filter = ("state", "reason")


@admin.register(ReadyInterval)
class ReadyIntervalAdmin(ReadOnly):
    list_display = ("instance", "opened_at", "closed_at", "close_reason", "charged_to", "settled")
    list_select_related = ("instance",)
    list_filter = ("settled", "final")


@admin.register(DiskInterval)
class DiskIntervalAdmin(ReadOnly):
    list_display = ("meter", "opened_at", "closed_at", "close_reason", "charged_to", "settled")
    list_select_related = ("meter",)
    list_filter = ("settled",)


@admin.register(UnknownPod)
class UnknownPodAdmin(ReadOnly):
    list_display = ("name", "namespace", "cluster", "label", "first_seen_at", "last_seen_at")


@admin.register(Volume)
class VolumeAdmin(ReadOnly):
    list_display = ("pvc_name", "cluster", "domain", "size_gib", "state", "reason", "state_since")
    list_filter = ("state", "domain")
    search_fields = ("pvc_name", "tenant_ref")


@admin.register(VolumeEvent)
class VolumeEventAdmin(ReadOnly):
    list_display = ("volume", "seq", "at", "state", "reason", "bound_gib")


@admin.register(VolumeAttachment)
class VolumeAttachmentAdmin(ReadOnly):
    list_display = ("volume", "instance", "from_at", "to_at")


@admin.register(VolumeReceipt)
class VolumeReceiptAdmin(ReadOnly):
    list_display = ("volume", "at", "sha256")


@admin.register(UnknownVolume)
class UnknownVolumeAdmin(ReadOnly):
    list_display = ("cluster", "namespace", "name", "label", "first_seen_at", "last_seen_at")


@admin.register(Brake)
class BrakeAdmin(ReadOnly):
    list_display = ("cluster", "cause", "tripped_at", "wanted", "limit", "released_at", "note")
    list_filter = ("cause",)
    list_select_related = ("cluster",)


@admin.register(DeletedOrphan)
class DeletedOrphanAdmin(ReadOnly):
    list_display = ("name", "namespace", "cluster", "label", "deleted_at")
    list_select_related = ("cluster",)
