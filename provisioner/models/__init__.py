"""The provisioner's tables, one concern per module. Names of owners are opaque UUIDs."""

from provisioner.models.brake import Brake, DeletedOrphan
from provisioner.models.cluster import Cluster, ClusterLoop, Namespace
from provisioner.models.disk_interval import DiskInterval, DiskMeter
from provisioner.models.entry import Entry, RawPort, Visit, WayIn
from provisioner.models.instance import Instance
from provisioner.models.instance_event import InstanceEvent
from provisioner.models.instance_log import InstanceLog
from provisioner.models.node import DeviceGroup, GroupChange, Node, NodeShare
from provisioner.models.observation import Observation, UnknownPod
from provisioner.models.preflight import PreflightChange, PreflightResult
from provisioner.models.probe import Benchmark, Probe
from provisioner.models.ready_interval import ReadyInterval
from provisioner.models.reliability import Reliability
from provisioner.models.report import MetricSample, Reporter
from provisioner.models.slot import Hold, Slot
from provisioner.models.volume import (
    UnknownVolume,
    Volume,
    VolumeAttachment,
    VolumeEvent,
    VolumeReceipt,
)

__all__ = [
    "Benchmark",
    "Brake",
    "Cluster",
    "ClusterLoop",
    "DeletedOrphan",
    "DeviceGroup",
    "DiskInterval",
    "DiskMeter",
    "Entry",
    "GroupChange",
    "Hold",
    "Instance",
    "InstanceEvent",
    "InstanceLog",
    "MetricSample",
    "Namespace",
    "Node",
    "NodeShare",
    "Observation",
    "PreflightChange",
    "PreflightResult",
    "Probe",
    "RawPort",
    "ReadyInterval",
    "Reliability",
    "Reporter",
    "Slot",
    "UnknownPod",
    "UnknownVolume",
    "Visit",
    "Volume",
    "VolumeAttachment",
    "VolumeEvent",
    "VolumeReceipt",
    "WayIn",
]
