"""From what is wanted and what was seen to what happens next. PURE: ``at`` is passed in.

The same function serves the full list, the watch and the loop's own look at one pod, so an
instance cannot fare differently depending on who saw it first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from provisioner.contracts import Fault, InstanceState
from provisioner.instances.reasons import HELD, NOT_SEEN, REASONS
from provisioner.instances.state import TROUBLED, metered
from provisioner.inventory.accelerators import Model
from provisioner.kube.pods import Device, PodFacts, as_evidence, proof
from provisioner.reconcile import trouble

S = InstanceState

# From the order to an object in the cluster. An API server that takes longer than this is not one
# to rent from; shorter and a restart of it fails rentals.
CREATE_DEADLINE = timedelta(minutes=2)
# A 60 GB image over a slow line. Shorter fails honest orders, longer keeps cards from others.
PULL_DEADLINE = timedelta(minutes=40)
# Check and start of the program after the image is there.
START_DEADLINE = timedelta(minutes=10)
DEADLINES: dict[InstanceState, tuple[timedelta, str]] = {
    S.RESERVED: (CREATE_DEADLINE, "start_timeout"),
    S.CREATING: (CREATE_DEADLINE, "start_timeout"),
    S.PULLING: (PULL_DEADLINE, "image_pull_timeout"),
    S.STARTING: (START_DEADLINE, "start_timeout"),
}
# A program that keeps ending for this long will not heal, and its cards cost the renter money.
# Shorter ends what a slow dependency would mend.
CRASH_LOOP = timedelta(minutes=30)
# A program that ran this long before it ended again is not in a loop.
CALM = timedelta(minutes=10)
# A relay comes back within seconds and a gateway's restart is soon over. What cannot be entered
# after this is of no use to who wants to, and was free.
WAY_IN_PATIENCE = timedelta(minutes=3)
SSH_DOWN = "ssh_down"
# Of a card's memory. A driver keeps some for itself, and a screen on the host takes a gigabyte of a
# desktop's card; a program that was left behind, or is the owner's own, takes more.
IN_USE = 0.05
# Phases that a pod does not leave.
_OVER = ("Failed", "Succeeded")
# What a kubelet reports for containers that it lost sight of, as after a reboot of its host.
_NOBODY_KNOWS = frozenset({"ContainerStatusUnknown", "Unknown"})


@dataclass(frozen=True)
class Known:
    """The instance's row as decisions need it."""

    state: InstanceState
    reason: str
    state_since: datetime
    gpus: int
    model: Model
    pod_uid: str | None
    seen: dict[str, Any]
    short: bool  # the node offers fewer devices than are held
    node_ready: bool  # as the last inventory saw it
    grace: timedelta  # how long it may be in trouble by no fault of the renter
    closed: bool = False  # SSH was asked for, and from outside nobody comes in: not yet, or no more


@dataclass(frozen=True)
class Stay:
    """No move. ``seen``: what to remember, None if it is what we remember already."""

    seen: dict[str, Any] | None = None


@dataclass(frozen=True)
class Go:
    to: InstanceState
    reason: str
    seen: dict[str, Any]
    evidence: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    # The same container as before, and ready: whatever nobody saw meanwhile, it ran.
    bridged: bool = False


@dataclass(frozen=True)
class End:
    """The instance cannot become or stay useful."""

    reason: str
    fault: Fault | None = None
    evidence: dict[str, Any] = field(default_factory=dict)
    text: str = ""


Decision = Stay | Go | End


def absent(known: Known) -> Decision:
    """A pod that existed is not there, and we did not ask for that."""
    return End("host_lost", evidence={"pod_uid": known.pod_uid})


def unseen(known: Known) -> Decision:
    """A full list lacks the pod. A list that is wrong looks the same, so it is a reason to stop the
    meter and to ask for that one pod; only the second answer ends anything."""
    if known.state in (S.READY, S.DEGRADED):
        return Go(S.UNREACHABLE, NOT_SEEN, known.seen, {"pod_uid": known.pod_uid})
    return Stay()


def held(known: Known, wanted: End | Go) -> Decision:
    """What happens instead of an end, or of blaming the host, while the mass brake holds."""
    seen = wanted.seen if isinstance(wanted, Go) else known.seen
    silent = isinstance(wanted, End) or wanted.to == S.UNREACHABLE
    if known.state in DEADLINES or (known.state == S.UNREACHABLE and silent):
        return Stay()
    if known.state == S.DEGRADED and known.reason == HELD:
        return Stay(None if seen == known.seen else seen)
    return Go(S.DEGRADED, HELD, seen, {**wanted.evidence, "instead_of": wanted.reason})


def makes_bad(known: Known, decision: Decision) -> bool:
    """Whether a picture takes the instance away or blames its host for something new, the renter's
    own doing aside. What the brake holds stays bad until the picture is good again."""
    if isinstance(decision, End):
        return (decision.fault or REASONS[decision.reason].fault) != Fault.RENTER
    if known.state == S.DEGRADED and known.reason == HELD:
        return isinstance(decision, Stay) or decision.to in TROUBLED
    if isinstance(decision, Stay) or decision.to not in TROUBLED:
        return False
    was_well = known.state != S.DEGRADED or metered(known.state, known.reason)
    return was_well and not metered(decision.to, decision.reason)


def overdue(known: Known, at: datetime) -> Decision:
    """No news of an instance on its way up: has its phase run out of time?"""
    limit = DEADLINES.get(known.state)
    if limit is not None and at - known.state_since > limit[0]:
        return End(limit[1], evidence={"phase": known.state.value})
    return Stay()


def given_up(known: Known, at: datetime) -> Decision:
    """In trouble that is not the renter's for longer than its grace: it will not come back."""
    if known.state not in TROUBLED or metered(known.state, known.reason):
        return Stay()
    if known.reason == HELD:
        return Stay()  # what the brake held is decided by a look, never by time alone
    if at - known.state_since < known.grace:
        return Stay()
    reason = known.reason if known.reason == "gpu_lost" else "host_lost"
    return End(reason, evidence={"since": known.state_since.isoformat(), "was": known.reason})


def present(known: Known, pod: PodFacts, at: datetime) -> Decision:
    """What a pod's present condition means for its instance."""
    if pod.deleting:
        return End("host_lost", text="The machine is being removed from its host.")
    if pod.phase in _OVER:
        return _ended(known, pod)
    if known.state in DEADLINES:
        return _coming_up(known, pod, at)
    return _serving(known, pod, at)


def remembered(pod: PodFacts) -> dict[str, Any]:
    seen = pod.identity()
    if pod.version is not None:
        seen["version"] = pod.version
    return seen


def is_older(known_seen: dict[str, Any], pod: PodFacts) -> bool:
    """Whether this picture is older than the one decided on last (a list that was overtaken)."""
    before = known_seen.get("version")
    return isinstance(before, int) and pod.version is not None and pod.version < before


def unchanged(known_seen: dict[str, Any], pod: PodFacts) -> bool:
    """Whether a gap can be bridged: same container, restarts and Ready transition, and ready."""
    return pod.ready and all(known_seen.get(k) == v for k, v in pod.identity().items())


def settled(known_seen: dict[str, Any], pod: PodFacts) -> bool:
    """Whether a ready instance with all its cards is just as it was when it was decided on last:
    then `present` would let it stay. Most of any list is."""
    same = pod.version is not None and pod.version == known_seen.get("version")
    well = pod.main.running and not pod.deleting and pod.phase not in _OVER
    return same and well and unchanged(known_seen, pod)


def _ended(known: Known, pod: PodFacts) -> Decision:
    """Bare pods that always restart end only by the kubelet's hand: admission or eviction."""
    evidence = {"phase": pod.phase, "reason": pod.reason}
    if known.state in DEADLINES:
        return End("host_rejected", evidence=evidence)
    return End("host_lost", evidence=evidence)


def _coming_up(known: Known, pod: PodFacts, at: datetime) -> Decision:
    checked = pod.check.exit_code == 0 and not pod.check.waiting
    if checked:
        mismatch = _mismatch(known, pod)
        if mismatch is not None:
            return mismatch
    if checked and pod.ready and pod.main.running:
        well = _ready(known, pod, "ready", remembered(pod))
        return _closed(known, pod, at) if known.closed else well
    found = trouble.of(pod, str(known.seen.get("trouble", "")))
    seen = remembered(pod)
    if found is not None:
        since = _since(known.seen, found.reason, at)
        if at - since >= found.patience:
            return End(found.reason, fault=found.fault, evidence=found.evidence)
        seen |= {"trouble": found.reason, "trouble_since": since.isoformat()}
    late = overdue(known, at)
    if isinstance(late, End):
        return late
    to = _phase(pod)
    if to is not None and to != known.state and not _backwards(known.state, to):
        return Go(to, to.value, seen)
    return Stay(None if seen == known.seen else seen)


def _closed(known: Known, pod: PodFacts, at: datetime) -> Decision:
    """Everything is as ordered but the way in: running is what can be entered."""
    since = _since(known.seen, "no_way_in", at)
    if at - since >= WAY_IN_PATIENCE:
        return End("no_way_in", evidence=_evidence(pod))
    seen = remembered(pod) | {"trouble": "no_way_in", "trouble_since": since.isoformat()}
    if known.state != S.STARTING:
        return Go(S.STARTING, S.STARTING.value, seen)
    return Stay(None if seen == known.seen else seen)


def _phase(pod: PodFacts) -> InstanceState | None:
    """The check may run before the renter's image is there; the program never does. No state of a
    pod tells a pull from what else comes before its first container."""
    if not pod.scheduled:
        return None
    started = pod.main.running or pod.main.exit_code is not None
    return S.STARTING if started else S.PULLING


def _backwards(old: InstanceState, new: InstanceState) -> bool:
    return old == S.STARTING and new == S.PULLING


def _serving(known: Known, pod: PodFacts, at: datetime) -> Decision:
    seen = remembered(pod)
    if known.short:
        return _degraded(known, "gpu_lost", seen, {"pod_uid": pod.uid})
    healthy = pod.ready and pod.main.running
    ran = known.state == S.READY or (known.state == S.DEGRADED and known.reason == SSH_DOWN)
    bridged = ran and unchanged(known.seen, pod)
    if healthy and (bridged or not ran):
        return _well(known, pod, seen | _crashing(known), bridged=bridged)
    reason = _why_not_ready(known, pod)
    if reason == "container_exited":
        return _mismatch(known, pod) or _crashed(known, pod, at)
    return _degraded(known, reason, seen, _evidence(pod))


def _well(known: Known, pod: PodFacts, seen: dict[str, Any], *, bridged: bool) -> Decision:
    """Healthy by all that the cluster shows. Where it cannot be entered that is the renter's, whose
    SSH server it is: the meter goes on, so the proof goes with it."""
    to, reason = (S.DEGRADED, SSH_DOWN) if known.closed else (S.READY, "recovered")
    if known.state == to and (to == S.READY or known.reason == reason):
        return Stay(None if seen == known.seen else seen)
    well = replace(_ready(known, pod, reason, seen), to=to, bridged=bridged)
    return _mismatch(known, pod) or well


def _crashed(known: Known, pod: PodFacts, at: datetime) -> Decision:
    """The program ended on healthy cards: the meter goes on, so the proof goes with it."""
    since = _crashing_since(known, at)
    if at - since >= CRASH_LOOP and not pod.ready:
        return End("container_exited", evidence=_evidence(pod))
    trouble_now = {"trouble": "container_exited", "trouble_since": since.isoformat()}
    devices = as_evidence(proof(pod.check.message) or [])
    seen = remembered(pod) | trouble_now
    return _degraded(known, "container_exited", seen, {**_evidence(pod), **devices})


def _degraded(
    known: Known, reason: str, seen: dict[str, Any], evidence: dict[str, Any]
) -> Decision:
    """Say so once; another cause takes over when there is one."""
    if known.state == S.DEGRADED and known.reason == reason:
        return Stay(None if seen == known.seen else seen)
    return Go(S.DEGRADED, reason, seen, evidence)


def _why_not_ready(known: Known, pod: PodFacts) -> str:
    """Whose doing it is. On a healthy host a program ends by itself or because its renter ended
    it; a host that reboots reports containers that ended for a reason it does not know."""
    if not known.node_ready:
        return "node_not_ready"
    ended = pod.main.exit_code is not None or pod.main.waiting == "CrashLoopBackOff"
    again = pod.main.running and pod.main.restarts != known.seen.get("restarts")
    if ended and pod.main.ended not in _NOBODY_KNOWS and (not pod.main.running or again):
        return "container_exited"
    return "not_ready" if pod.main.running or ended else "node_not_ready"


def _crashing(known: Known) -> dict[str, Any]:
    return {key: known.seen[key] for key in ("trouble", "trouble_since") if key in known.seen}


def _crashing_since(known: Known, at: datetime) -> datetime:
    """Since when the program keeps ending: a run of CALM in between begins the count anew."""
    if known.state == S.READY and at - known.state_since >= CALM:
        return at
    return _since(known.seen, "container_exited", at)


def _evidence(pod: PodFacts) -> dict[str, Any]:
    found: dict[str, Any] = {"pod_uid": pod.uid, **pod.identity()}
    if pod.main.exit_code is not None:
        found["exit_code"] = pod.main.exit_code
    return found


def _ready(known: Known, pod: PodFacts, reason: str, seen: dict[str, Any]) -> Go:
    devices = proof(pod.check.message) or []
    shown = {"pod_uid": pod.uid, "container": pod.main.id, **as_evidence(devices)}
    return Go(S.READY, reason, seen, shown)


def _mismatch(known: Known, pod: PodFacts) -> End | None:
    """None if the check's report shows exactly what was ordered."""
    devices = proof(pod.check.message)
    if devices is None:
        problem, found = "The check of the cards left no readable report.", {}
    elif len(devices) != known.gpus:
        problem = f"{len(devices)} cards were found, {known.gpus} were ordered."
        found = as_evidence(devices)
    elif len({device.uid for device in devices}) != len(devices):
        problem, found = "The same card was found twice.", as_evidence(devices)
    elif not all(known.model.is_named(device.model) for device in devices):
        problem, found = "Cards of another model were found.", as_evidence(devices)
    elif not all(_has_memory(known.model, device) for device in devices):
        problem, found = "Cards with another memory size were found.", as_evidence(devices)
    elif any(_in_use(device) for device in devices):
        return End("card_in_use", evidence={"pod_uid": pod.uid, **as_evidence(devices)})
    else:
        return None
    return End("order_mismatch", text=problem, evidence={"pod_uid": pod.uid, **found})


def _in_use(device: Device) -> bool:
    if device.used_mib is None or device.memory_mib is None:
        return False
    return device.used_mib > IN_USE * device.memory_mib


def _has_memory(model: Model, device: Device) -> bool:
    """A part may leave it to its profile, which the driver named; a whole card tells it."""
    if device.memory_mib is None:
        return bool(model.partition)
    return model.has_memory(device.memory_mib)


def _since(seen: dict[str, Any], reason: str, at: datetime) -> datetime:
    if seen.get("trouble") != reason:
        return at
    try:
        return datetime.fromisoformat(str(seen["trouble_since"]))
    except (KeyError, ValueError):
        return at
