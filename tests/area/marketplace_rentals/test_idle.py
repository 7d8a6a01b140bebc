"""The reporter's operation, the series of a rental, and the idle stop, over the API."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.test import Client

from billing import facade as billing
from kernel.text import rfc3339
from marketplace.http import ratelimit
from marketplace.models import AuditEntry, WebhookEvent
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import idle
from provisioner.instances.report_token import token_of
from provisioner.models import Instance, MetricSample, ReadyInterval, Reporter
from tests.area.marketplace_portal.visitors import visitor_of
from tests.area.marketplace_rentals.test_life import NOON, World, clock, world  # noqa: F401
from tests.market import make_renter, make_supply, order

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _fresh_buckets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets())


def body(*percents: float | None, **more: Any) -> dict[str, Any]:
    return {
        "at": rfc3339(NOON),
        "devices": [
            {
                "id": f"GPU-{n}",
                "gpu_percent": percent,
                "memory_used_bytes": 5,
                "memory_total_bytes": 80,
            }
            for n, percent in enumerate(percents)
        ],
        **more,
    }


def token(of: World | Instance) -> str:
    instance = of if isinstance(of, Instance) else of.instance
    return token_of(instance.pk, key=settings.GPUYARD_SEALING_KEY)


def post(bearer: str | None, sent: Any) -> tuple[int, Any, Any]:
    headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
    answer = Client(raise_request_exception=False).post(
        "/api/v1/instance-reports",
        data=sent if isinstance(sent, bytes) else json.dumps(sent),
        content_type="application/json",
        headers=headers,
    )
    return answer.status_code, json.loads(answer.content), answer


def stored() -> int:
    return Reporter.objects.count() + MetricSample.objects.count()


# --- the operation --------------------------------------------------------------------------------


def test_a_machine_reports_and_its_rental_shows_it(world):  # noqa: F811
    world.run()
    following.follow()
    more = {"ssh": "up", "disk": {"used_bytes": 3, "total_bytes": 9}, "boot": "b1"}
    status, answer, _ = post(token(world), body(42.5, **more))
    assert (status, answer) == (200, {"next_s": 15})
    row = Reporter.objects.get()
    assert (row.instance_id, row.ssh, row.boot) == (world.instance.pk, "up", "b1")
    world.clock.set(NOON + timedelta(seconds=30))
    shown = world.renter.call("GET", f"{world.path}/metrics?since={rfc3339(NOON)}")[1]["reported"]
    assert (shown["since"], shown["until"], shown["step"]) == (
        "2026-03-01T12:00:00Z",
        "2026-03-01T12:00:30Z",
        30,
    )
    found = {(one["metric"], one["device"], one["device_id"]): one for one in shown["series"]}
    unix = int(NOON.timestamp())
    assert found["gpu_percent", 0, "GPU-0"]["values"] == [[unix, 42.5]]
    assert found["memory_used_bytes", 0, "GPU-0"]["values"] == [[unix, 5]]
    assert found["temperature_c", 0, "GPU-0"]["values"] == [[unix, None]]
    assert found["disk_total_bytes", None, None]["values"] == [[unix, 9]]
    world.clock.set(NOON + timedelta(seconds=60))
    shown = world.renter.call("GET", f"{world.path}/metrics?since={rfc3339(NOON)}")[1]["reported"]
    assert shown["series"][0]["values"] == [[unix, 42.5], [unix + 30, None]]


def test_only_the_reporter_may_report(world):  # noqa: F811
    world.run()
    session = Client()
    session.force_login(world.renter.principal.user)
    good = token(world)
    for bearer in (None, world.renter.secret, good + "x", good[:-2], "gy_rep_x_y", ""):
        status, problem, answer = post(bearer, body(1))
        assert (status, problem["type"]) == (401, "/problems/unauthenticated"), bearer
        assert answer["WWW-Authenticate"]
    status = session.post(
        "/api/v1/instance-reports", data=json.dumps(body(1)), content_type="application/json"
    ).status_code
    assert status == 401
    # Who may not report is not told what is wrong with the report either.
    assert post(world.renter.secret, {"surprise": 1})[0] == 401
    assert stored() == 0


def test_a_token_of_an_instance_that_ends_is_dead(world):  # noqa: F811
    world.run()
    following.follow()
    mine = token(world)
    assert post(mine, body(1))[0] == 200
    world.clock.set(NOON + timedelta(seconds=15))
    world.renter.call("DELETE", world.path)
    before = stored()
    assert post(mine, body(1))[0] == 401
    world.gone(NOON + timedelta(seconds=20))
    assert post(mine, body(1))[0] == 401
    assert stored() == before


def test_the_token_opens_nothing_else(world):  # noqa: F811
    world.run()
    for method, path in (
        ("GET", "/me"),
        ("GET", "/rentals"),
        ("GET", world.path.removeprefix("")),
        ("GET", f"{world.path}/metrics"),
        ("POST", "/rentals"),
        ("DELETE", world.path),
    ):
        status = (
            Client()
            .generic(
                method,
                f"/api/v1{path}",
                data="{}",
                content_type="application/json",
                headers={"Authorization": f"Bearer {token(world)}", "Idempotency-Key": "k"},
            )
            .status_code
        )
        assert status == 401, (method, path)
    assert Client().get(
        "/api/v1/instance-reports", headers={"Authorization": f"Bearer {token(world)}"}
    ).status_code in (401, 405)


def test_each_machine_reports_for_itself(world):  # noqa: F811
    world.run()
    renter, supply = make_renter(), make_supply(1)
    other = renter.call("POST", "/rentals", order(supply.offer))[1]["id"]
    assert post(token(world), body(7))[0] == 200
    theirs = renter.call("GET", f"/rentals/{other}/metrics")[1]["reported"]
    assert theirs["series"] == []
    assert renter.call("GET", f"{world.path}/metrics")[0] == 404


def _device(**more: Any) -> dict[str, Any]:
    return {**body(1)["devices"][0], **more}


HOSTILE: list[tuple[str, Any]] = [
    ("no body", {}),
    ("list", []),
    ("unknown", body(1, surprise=1)),
    ("unknown in device", body(devices=[_device(note="x")])),
    ("too many percent", body(100.1)),
    ("negative", body(-0.1)),
    ("text", body(devices=[_device(gpu_percent="5")])),
    ("boolean", body(devices=[_device(gpu_percent=True)])),
    ("object", body(devices=[_device(gpu_percent={"a": 1})])),
    ("no percent", body(devices=[{"id": "a", "memory_used_bytes": 1, "memory_total_bytes": 1}])),
    ("fraction of a byte", body(devices=[_device(memory_used_bytes=1.5)])),
    ("too many bytes", body(devices=[_device(memory_total_bytes=2**63)])),
    ("heat", body(devices=[_device(temperature_c=1e6)])),
    ("id with markup", body(devices=[_device(id="<b> x")])),
    ("id too long", body(devices=[_device(id="x" * 65)])),
    ("id empty", body(devices=[_device(id="")])),
    ("id no text", body(devices=[_device(id=5)])),
    ("a card twice", body(devices=[_device(), _device()])),
    ("more cards than it has", body(1, 1, 1)),
    ("more cards than any has", body(*[1.0] * 65)),
    ("devices an object", body(devices={"0": _device()})),
    ("devices null", body(devices=None)),
    ("ssh", body(1, ssh="maybe")),
    ("disk", body(1, disk={"used_bytes": 1})),
    ("disk negative", body(1, disk={"used_bytes": -1, "total_bytes": 1})),
    ("boot", body(1, boot="x" * 65)),
    ("boot with spaces", body(1, boot="a b")),
    ("no time", {"devices": []}),
    ("time", {**body(1), "at": "yesterday"}),
    ("first year", {**body(1), "at": "0001-01-01T00:00:00+14:00"}),
    ("last year", {**body(1), "at": "9999-12-31T23:59:59-14:00"}),
    *(
        (f"ports {shown}", body(1, ports=given))
        for shown, given in (
            ("many", list(range(1, 66))),
            ("unsorted", [2, 1]),
            ("twice", [1, 1]),
            ("zero", [0]),
            ("large", [65536]),
            ("huge", [10**30]),
            ("true", [True]),
            ("text", ["80"]),
            ("parts", [80.0]),
            ("nested", [[80]]),
            ("object", {"80": 80}),
        )
    ),
]


@pytest.mark.parametrize(("what", "sent"), HOSTILE, ids=[what for what, _ in HOSTILE])
def test_hostile_bodies_are_named_and_store_nothing(world, what, sent):  # noqa: F811
    world.run()
    Instance.objects.update(gpus=2)
    status, problem, _ = post(token(world), sent)
    assert (status, problem["type"]) == (422, "/problems/invalid_request")
    assert problem["errors"]
    assert stored() == 0


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        (b"{", 400),
        (b"[" * 30_000, 400),
        (b'{"at": NaN}', 400),
        (b'{"at": 1' + b"0" * 5000 + b"}", 400),
        (b'{"at": "\\u0000"}', 400),
        (b" " * (32 * 1024 + 1), 413),
    ],
)
def test_broken_and_large_bodies(world, raw, status):  # noqa: F811
    world.run()
    assert post(token(world), raw)[0] == status
    assert stored() == 0


def test_sixty_four_cards_fit(world):  # noqa: F811
    world.run()
    Instance.objects.update(gpus=64)
    cards = [_device(id=f"{n:064d}", temperature_c=55.25, gpu_percent=99.999) for n in range(64)]
    assert post(token(world), body(devices=cards))[0] == 200


def test_reports_in_a_hurry_are_429(world):  # noqa: F811
    world.run()
    assert post(token(world), body(1))[0] == 200
    world.clock.set(NOON + timedelta(seconds=2))
    before = stored()
    status, problem, answer = post(token(world), body(1))
    assert (status, problem["type"]) == (429, "/problems/rate_limited")
    assert (answer["Retry-After"], stored()) == ("3", before)
    world.clock.set(NOON + timedelta(seconds=5))
    assert post(token(world), body(1))[0] == 200


def test_a_flood_of_one_machine_leaves_the_others_alone(world, monkeypatch):  # noqa: F811
    world.run()
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets(rate=0.001, burst=2))
    assert [post(token(world), b"{")[0] for _ in range(3)] == [400, 400, 429]
    renter, supply = make_renter(), make_supply(1)
    renter.call("POST", "/rentals", order(supply.offer))
    other = Instance.objects.exclude(pk=world.instance.pk).get()
    assert post(token(other), body(1))[0] == 200


def test_reports_change_no_interval_and_no_charge(world):  # noqa: F811
    """The same hour with a reporter that lies and without any costs the same."""
    world.run()
    following.follow()
    intervals = list(ReadyInterval.objects.values())
    for n, sent in enumerate((body(0, ssh="down"), body(100, ssh="up"), body(None), body())):
        world.clock.set(NOON + timedelta(minutes=n))
        assert post(token(world), sent)[0] == 200
    following.follow()
    assert list(ReadyInterval.objects.values()) == intervals
    assert world.show()["state"] == "running"
    world.seen(NOON + timedelta(minutes=61))
    charging.charge()
    assert billing.spent(rental_refs=[world.rental.id])[world.rental.id] == 2_000_000


# --- series ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "since=2026-03-01T13:00:00Z",  # to come
        "since=2026-03-01T11:00:00Z&until=2026-03-01T11:00:00Z",
        "until=2026-01-01T00:00:00Z&since=2025-12-01T00:00:00Z",  # forgotten
        "since=0001-01-01T00:00:00Z&until=0001-01-02T00:00:00Z",
        "since=yesterday",
        "since=2026-03-01T11:00:00",
        "step=29",
        "step=86401",
        "step=-30",
        "points=5",
    ],
)
def test_what_cannot_be_asked_for_is_said(world, query):  # noqa: F811
    status, problem = world.renter.call("GET", f"{world.path}/metrics?{query}")
    assert status == 400, problem
    assert problem["type"] in ("/problems/invalid_filter", "/problems/unknown_filter")


def test_a_long_time_is_bounded_and_coarser(world):  # noqa: F811
    world.run()
    assert post(token(world), body(1))[0] == 200
    query = "since=0001-01-02T00:00:00Z&until=9999-01-01T00:00:00Z&step=30"
    shown = world.renter.call("GET", f"{world.path}/metrics?{query}")[1]["reported"]
    assert shown["step"] >= 3600
    assert all(len(one["values"]) <= 720 for one in shown["series"])
    assert shown["since"] >= "2026-01-29"


def test_the_page_shows_the_last_hour_and_silence_as_a_dash(world):  # noqa: F811
    world.run()
    following.follow()
    visitor = visitor_of(world.renter)
    page = visitor.get(world.path)
    assert page.status_code == 200
    assert "application/json" not in page.text, "nothing was told, so nothing is drawn"
    more = {"id": "GPU-<b>", "gpu_percent": 40.26, "temperature_c": 61}
    hostile = {**more, "memory_used_bytes": 3 * 2**29, "memory_total_bytes": 80 * 2**30}
    assert post(token(world), body(devices=[hostile]))[0] == 200
    world.clock.set(NOON + timedelta(seconds=20))
    text = visitor.get(world.path).text
    assert "<b>" not in text
    for latest in ("40.3 %", "1.5 GiB", "61 °C"):
        assert f'<td class="num">{latest}</td>' in text
    world.seen(NOON + timedelta(minutes=30))
    drawn = re.findall(
        r'<script type="application/json">(.*?)</script>', visitor.get(world.path).text
    )
    use = json.loads(drawn[0])["lines"][0]["values"]
    told = [value for value in use if value is not None]
    assert told == [40.3], "what was told stays for the hour"
    assert use[-1] is None, "silence is a gap, never zero"


# --- idle stop ------------------------------------------------------------------------------------


class Idler:
    """A rental that is stopped after ten minutes without work, and its reporter."""

    def __init__(self, world: World) -> None:  # noqa: F811
        self.world = world
        status, shown = world.renter.call("PATCH", world.path, {"idle_stop_minutes": 10})
        assert (status, shown["idle_stop_minutes"]) == (200, 10)
        world.run()
        following.follow()

    def tell(self, begin: float, end: float, *percents: float | None, **more: Any) -> None:
        """Reports each 15 s from minute ``begin`` to ``end``, both included."""
        seconds = int(begin * 60)
        while seconds <= end * 60:
            self.world.clock.set(NOON + timedelta(seconds=seconds))
            assert post(token(self.world), body(*percents, **more))[0] == 200
            seconds += 15

    def sweep(self, minute: float) -> tuple[str, str]:
        self.world.seen(NOON + timedelta(minutes=minute))
        idle.sweep()
        shown = self.world.show()
        return shown["state"], shown["reason"]


@pytest.fixture
def idler(world: World) -> Idler:  # noqa: F811
    return Idler(world)


def test_an_idle_rental_is_told_and_then_stopped_with_its_data(idler) -> None:
    world = idler.world  # noqa: F811
    idler.tell(0, 9.75, 5)
    assert idler.sweep(9.9) == ("running", "ready")
    idler.tell(10, 10, 0)
    assert idler.sweep(10) == ("interrupting", "idle")
    shown = world.show()
    assert shown["interrupt_at"] == "2026-03-01T12:15:00Z"
    assert (
        "2026-03-01T12:15:00Z"
        in world.renter.call("GET", f"{world.path}/events")[1]["items"][-1]["text"]
    )
    assert WebhookEvent.objects.filter(type="notice.idle").count() <= 1
    idler.tell(10.25, 14.75, 0)
    assert idler.sweep(14.9) == ("interrupting", "idle")
    idler.tell(15, 15, 0)
    assert idler.sweep(15) == ("stopping", "idle")
    shown = world.show()
    assert (shown["fault"], shown["desired_state"]) == ("none", "stopped")
    assert shown["stop_ack_at"] == "2026-03-01T12:15:00Z"
    assert AuditEntry.objects.filter(action="rental.stop.idle").count() == 1
    world.gone(NOON + timedelta(minutes=15, seconds=5))
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("stopped", "idle")
    # Charged to the stop and not beyond; it can be started again.
    assert billing.spent(rental_refs=[world.rental.id])[world.rental.id] == 500_000
    assert "start" in shown["actions"]
    assert idle.sweep() == 0


def test_the_notice_goes_to_webhooks(idler) -> None:
    renter = idler.world.renter
    hook = {"url": "https://93.184.215.14/hook", "event_types": ["notice.*"]}
    assert renter.call("POST", "/webhooks", hook)[0] == 201
    idler.tell(0, 10, 0)
    idler.sweep(10)
    idle.sweep()
    (event,) = WebhookEvent.objects.filter(type="notice.idle")
    assert event.organization_id == renter.org


def test_a_card_that_works_withdraws_the_notice(idler) -> None:
    idler.tell(0, 10, 0)
    assert idler.sweep(10)[0] == "interrupting"
    idler.tell(10.25, 10.25, 6)
    assert idler.sweep(10.3) == ("running", "notice_withdrawn")
    assert idler.world.show()["interrupt_at"] is None
    idler.tell(10.5, 20.25, 0)
    assert idler.sweep(20.4)[0] == "running", "ten minutes from the work on"
    idler.tell(20.5, 20.5, 0)
    assert idler.sweep(20.5)[0] == "interrupting"


def test_work_at_the_last_moment_is_seen_under_the_lock(idler, monkeypatch) -> None:
    """Between the question and the lock a report may come: the stop asks again."""
    idler.tell(0, 10, 0)
    idler.sweep(10)
    idler.tell(10.25, 15, 0)
    locked = idle._one

    def work_first(rental_id: Any) -> bool:
        monkeypatch.setattr(idle, "_one", locked)
        idler.tell(15.25, 15.25, 50)
        return locked(rental_id)

    monkeypatch.setattr(idle, "_one", work_first)
    assert idler.sweep(15.1) == ("running", "notice_withdrawn")


def test_silence_is_never_idle(idler) -> None:
    idler.tell(0, 9, 0)
    for minute in (9.9, 10, 10.5, 11, 60, 600):
        assert idler.sweep(minute) == ("running", "ready")


def test_silence_withdraws_the_notice(idler) -> None:
    idler.tell(0, 10, 0)
    assert idler.sweep(10)[0] == "interrupting"
    assert idler.sweep(11)[0] == "interrupting", "a minute of it is bridged"
    assert idler.sweep(11.1) == ("running", "notice_withdrawn")
    assert idler.sweep(16)[0] == "running"


def test_a_gap_begins_the_window_anew(idler) -> None:
    idler.tell(0, 5, 0)
    idler.tell(6.25, 10, 0)
    assert idler.sweep(10)[0] == "running"
    idler.tell(10.25, 16.25, 0)
    assert idler.sweep(16.25)[0] == "interrupting"


def test_a_program_that_began_anew_begins_the_window_anew(idler) -> None:
    idler.tell(0, 5, 0, boot="a")
    idler.tell(5.25, 10, 0, boot="b")
    assert idler.sweep(10)[0] == "running"
    idler.tell(10.25, 15.25, 0, boot="b")
    assert idler.sweep(15.25)[0] == "interrupting"


def test_another_card_that_works_keeps_it(idler) -> None:
    Instance.objects.update(gpus=2)
    idler.tell(0, 12, 0, 60)
    assert idler.sweep(12)[0] == "running"
    idler.tell(12.25, 25, 0)
    assert idler.sweep(25)[0] == "running", "a card that is not told may work"
    idler.tell(25.25, 35.25, 0, 0)
    assert idler.sweep(35.25)[0] == "interrupting"


def test_a_changed_setting_withdraws_the_notice_and_counts_from_then(idler) -> None:
    world = idler.world  # noqa: F811
    idler.tell(0, 10, 0)
    idler.sweep(10)
    idler.tell(10.25, 15, 0)
    status, shown = world.renter.call("PATCH", world.path, {"idle_stop_minutes": None})
    assert (status, shown["idle_stop_minutes"], shown["state"]) == (200, None, "running")
    assert idler.sweep(15) == ("running", "notice_withdrawn")
    shown = world.renter.call("PATCH", world.path, {"idle_stop_minutes": 60})[1]
    assert shown["idle_stop_minutes"] == 60
    idler.tell(15.25, 59.75, 0)
    assert idler.sweep(59.9)[0] == "running"
    # Other changes leave it and its notice alone.
    idler.tell(60, 60, 0)
    assert idler.sweep(60)[0] == "interrupting"
    shown = world.renter.call("PATCH", world.path, {"name": "other", "idle_stop_minutes": 60})[1]
    assert (shown["idle_stop_minutes"], shown["state"]) == (60, "interrupting")


def test_without_the_setting_it_is_never_idle(world) -> None:  # noqa: F811
    assert world.show()["idle_stop_minutes"] is None
    world.run()
    following.follow()
    for n in range(80):
        world.clock.set(NOON + timedelta(seconds=15 * n))
        assert post(token(world), body(0))[0] == 200
    assert idle.sweep() == 0
    assert world.show()["state"] == "running"


def test_a_lock_does_not_hold_it_off(idler) -> None:
    """As with an empty balance or an end date: it protects against people."""
    assert idler.world.renter.call("PATCH", idler.world.path, {"lock": True})[0] == 200
    idler.tell(0, 10, 0)
    idler.sweep(10)
    idler.tell(10.25, 15, 0)
    assert idler.sweep(15) == ("stopping", "idle")


@pytest.mark.parametrize("given", [9, 10081, 0, -10, "soon", 12.5, True, [10]])
def test_bounds_are_said_and_change_nothing(world, given) -> None:  # noqa: F811
    before = world.show()
    status, problem = world.renter.call("PATCH", world.path, {"idle_stop_minutes": given})
    assert (status, list(problem["errors"])) == (422, ["idle_stop_minutes"])
    assert world.show() == before
    body_ = order(world.supply.offer, idle_stop_minutes=given)
    status, problem = world.renter.call("POST", "/rentals", body_)
    assert (status, list(problem["errors"])) == (422, ["idle_stop_minutes"])


@pytest.mark.parametrize("given", [10, 10080, None])
def test_it_can_be_ordered(world, given) -> None:  # noqa: F811
    body_ = order(world.supply.offer, idle_stop_minutes=given)
    status, shown = world.renter.call("POST", "/rentals", body_)
    assert (status, shown["idle_stop_minutes"]) == (202, given)
