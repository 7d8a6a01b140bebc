"""One approved provider and its clusters, and the doors by which the campaign meets the product."""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from django.conf import settings
from django.db import transaction

from kernel.errors import VendorError
from kernel.ids import new_id, parse, public
from marketplace.http import ratelimit
from marketplace.models import DataCenter, Provider
from provisioner import facade
from provisioner.clusters import agent_keys
from provisioner.contracts import AddressBinding
from provisioner.facade import agents
from provisioner.kube.errors import code_of
from provisioner.kube.questions import Questions, connect_to_ask
from provisioner.models import Cluster
from provisioner.reconcile.pool import Calls
from tests.hostile import pem
from tests.hostile.behaviours import HOST
from tests.hostile.calls import CALLS, WALKS
from tests.hostile.evidence import Names
from tests.hostile.far_end import FarEnd
from tests.hostile.inputs import Input
from tests.hostile.report import Report
from tests.market import Renter, make_renter

Clusters = dict[str, Cluster]  # by behaviour


class Stage:
    def __init__(self, far: FarEnd, names: Names, report: Report) -> None:
        self.far, self.names, self.report = far, names, report
        self.ready = far.ready
        self._ports: dict[str, int] = self.ready["ports"]
        names.answer(HOST, ["127.0.0.1"])
        ratelimit.requests = ratelimit.Buckets(burst=1e9)
        # Whoever types has no other cluster, because a provider has fifty at most.
        self._typing, self._typing_at = self._partner("Typing")
        self.owner, self._place = self._partner("Partner")
        self._real_door = int(far.order("gateway")["port"])
        healthy = self.ready["healthy"]
        self._api = connect_to_ask(self._register("healthy", **healthy))

    def _partner(self, name: str) -> tuple[Renter, DataCenter]:
        """An approved provider, bound as staff would bind a devstack: loopback and one port."""
        owner = make_renter(name, credit=0)
        provider = Provider.objects.create(
            organization=owner.principal.org,
            state=Provider.State.APPROVED,
            contact_email="ops@partner.example",
            allowed_networks=["127.0.0.0/8"],
            allowed_ports=[self._ports["silent"]],
        )
        place = DataCenter.objects.create(provider=provider, name=name, region="far", country="DE")
        return owner, place

    def allowed_ports(self) -> set[int]:
        found = {*self._ports.values(), self.ready["stand_in"], self._real_door}
        found.add(urlsplit(self.ready["healthy"]["api_url"]).port or 0)
        found.add(urlsplit(settings.CELERY_BROKER_URL).port or 0)
        return found

    # --- clusters ---------------------------------------------------------------------------------

    def _register(self, name: str, *, api_url: str, ca_pem: str, token: str) -> Cluster:
        key = new_id()
        binding = AddressBinding(("127.0.0.0/8",), (urlsplit(api_url).port or 0,))
        with transaction.atomic():
            facade.register_cluster(
                cluster_id=key,
                name=name,
                provider_ref=self._place.provider_id,
                datacenter_ref=self._place.id,
                api_url=api_url,
                ca_pem=ca_pem,
                token=token,
                binding=binding,
            )
        return Cluster.objects.get(pk=key)

    def direct_clusters(self) -> Clusters:
        """One per behaviour, at an address."""
        return {
            name: self._register(
                name,
                api_url=f"https://{HOST}:{port}",
                ca_pem=self.ready["ca"][name],
                token="hostile",
            )
            for name, port in self._ports.items()
        }

    def _agent_cluster(self, name: str) -> Cluster:
        key = new_id()
        with transaction.atomic():
            agents.register_agent_cluster(
                cluster_id=key,
                name=f"agent: {name}",
                provider_ref=self._place.provider_id,
                datacenter_ref=self._place.id,
            )
        return Cluster.objects.get(pk=key)

    def bad_agents(self) -> Clusters:
        """One per behaviour, with an agent that answers by itself."""
        made = {name: self._agent_cluster(name) for name in self._ports}
        for name, cluster in made.items():
            text = agent_keys.values(cluster).pem
            self.far.order("bad_agent", cluster=_public(cluster), behaviour=name, pem=text)
        return made

    def real_agents(self, behaviours: tuple[str, ...]) -> Clusters:
        """The real program beside a server of each behaviour."""
        made = {name: self._agent_cluster(f"real {name}") for name in behaviours}
        for name, cluster in made.items():
            self.far.order("agent", cluster=str(cluster.pk), port=self._ports[name])
        return made

    def at_bad_door(self) -> None:
        settings.GPUYARD_AGENT_DOOR = ("127.0.0.1", self.ready["stand_in"])

    def at_real_door(self) -> None:
        settings.GPUYARD_AGENT_DOOR = ("127.0.0.1", self._real_door)

    # --- before anything is measured --------------------------------------------------------------

    def warm_up(self) -> None:
        """What a worker has loaded after its first minute, so that it does not count."""
        for _ in range(3):
            self.ask_healthy()
            self.hand_over(Input("warm-up", {"api_url": "http://x"}), counted=False)
        for call in CALLS.values():
            try:
                call(self._api)  # type: ignore[arg-type]
            except VendorError:
                continue

    def ask_healthy(self) -> None:
        self._api.list_nodes()
        self._api.may_create_pods("gpuyard-r-01")

    # --- what owners type -------------------------------------------------------------------------

    def hand_over(self, given: Input, *, counted: bool = True) -> None:
        """One request; what is stored is connected to, as the first look would."""
        host = _host_of(given.changes["api_url"]) if given.answers else ""
        if host.endswith(".example"):  # others are addresses, which no name server is asked for
            self.names.answer(host, *given.answers)
        began = time.monotonic()
        status, content = self._typing.raw("POST", "/provider/clusters", self._body(given))
        self.report.took(time.monotonic() - began, given.kind)
        if counted:
            self.report.note("typed", f"typed: {status}")
        if status >= 500 or (status < 400 and given.refused):
            self.report.problem(f"{given.kind} {given.changes!r:.200}: {status} {content[:200]!r}")
        elif status == 201:
            self._try_stored(given, content)
        elif status == 422 and given.field.encode() not in content:
            self.report.problem(f"{given.kind}: names no {given.field}: {content!r:.200}")

    def _body(self, given: Input) -> bytes:
        if given.raw is not None:
            return given.raw
        right = {
            "name": f"c-{new_id().hex[-12:]}",
            "datacenter": self._typing_at.public_id,
            "api_url": f"https://127.0.0.1:{self._ports['silent']}",
            "ca_pem": pem.good().certificate,
            "token": "right",
        }
        return json.dumps({**right, **given.changes}).encode()

    def _try_stored(self, given: Input, content: bytes) -> None:
        cluster = Cluster.objects.get(pk=parse("cluster", json.loads(content)["id"]))
        shown = cluster.name + cluster.api_url
        if not shown.isprintable():
            self.report.problem(f"{given.kind}: stored as {shown!r}")
        bound = not given.kind.startswith("ca/")
        self._call(cluster, "version", f"stored {given.kind}", must_fail=bound)
        # A provider has fifty clusters at most, and this one registers hundreds.
        cluster.delete()

    # --- what servers answer ----------------------------------------------------------------------

    def call_all(self, part: str, clusters: Clusters, rng: random.Random, count: int) -> None:
        """So many calls, on the product's own threads and with its own bound per cluster."""
        wanted = self._drawn(clusters, rng, count)
        with Calls[str, str]() as calls:
            while wanted or not calls.idle():
                busy = set(calls.busy())
                while wanted and calls.free():
                    name, call = wanted.pop()
                    cluster = clusters[name]
                    if cluster.pk in busy:
                        wanted.insert(0, (name, call))
                        break
                    calls.submit(part, cluster.pk, self._job(part, cluster, name, call))
                for _ in calls.collect(timeout=0.1):
                    pass

    def _drawn(self, clusters: Clusters, rng: random.Random, count: int) -> list[tuple[str, str]]:
        """Pairs of behaviour and call: each of both in turn, so that small campaigns have many;
        of those that hold a call to its end, a fifth at most."""
        names, calls = sorted(clusters), sorted(CALLS)
        rng.shuffle(names)
        rng.shuffle(calls)
        slow = set(self.ready["slow"])
        pairs: list[tuple[str, str]] = []
        held = number = 0
        while len(pairs) < count:
            name, call = names[number % len(names)], calls[len(pairs) % len(calls)]
            number += 1
            if name in slow and len(names) > len(slow):
                if held >= count // 5:
                    continue
                held += 1
            pairs.append((name, call))
        return pairs

    def _job(self, part: str, cluster: Cluster, name: str, call: str) -> Callable[[], str]:
        api = connect_to_ask(cluster)  # of the database, so not in the thread

        def run() -> str:
            outcome = self._outcome(api, call, f"{part}, {name}")
            self.report.note(part, f"{part}: {outcome}")
            return outcome

        return run

    def _call(self, cluster: Cluster, call: str, what: str, *, must_fail: bool) -> None:
        try:
            api = connect_to_ask(cluster)
        except VendorError:
            return  # its stored values make no client, which the cluster's state then says
        except Exception as error:  # noqa: BLE001  (every other failure is a finding)
            self.report.problem(f"{what}: connecting raised {type(error).__name__}: {error}")
            return
        outcome = self._outcome(api, call, what)
        if must_fail and outcome == "answered":
            self.report.problem(f"{what}: was answered")

    def _outcome(self, api: Questions, call: str, what: str) -> str:
        """In words; anything but an answer or an error of ours is a problem."""
        began = time.monotonic()
        try:
            CALLS[call](api)  # type: ignore[arg-type]
            outcome = "answered"
        except VendorError as error:
            outcome = code_of(error)
        except Exception as error:  # noqa: BLE001  (every other failure is a finding)
            outcome = "escaped"
            self.report.problem(f"{what}, {call}: {type(error).__name__}: {error}"[:300])
        self.report.took(time.monotonic() - began, f"{what}, {call}", walk=call in WALKS)
        return outcome


def _public(cluster: Cluster) -> str:
    return public("cluster", cluster.pk)


def _host_of(url: str) -> str:
    """As the product reads it, "" where it cannot."""
    try:
        return urlsplit(url).hostname or ""
    except ValueError:
        return ""
