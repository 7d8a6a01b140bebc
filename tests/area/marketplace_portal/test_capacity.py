"""An owner in the portal: sees who is on its cards, takes them down, sets hours."""

from __future__ import annotations

import pytest

from kernel.ids import public
from marketplace.models import AbuseReport, Maintenance, Rental, User
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, visitor_of
from tests.authenticator import make_staff


def rented(supply: market.Supply) -> str:
    status, rental = market.make_renter().call("POST", "/rentals", market.order(supply.offer))
    assert status == 202, rental
    return str(rental["id"])


def test_it_sees_its_rentals_and_stops_one_after_the_consequences(
    provider: Visitor, supply: market.Supply
) -> None:
    rental = rented(supply)
    page = provider.get("/provider/capacity")
    assert rental in page.text
    assert f"/provider/rentals/{rental}/stop" in page.text
    asked = provider.get(f"/provider/rentals/{rental}/stop")
    assert "you earn nothing" in asked.text
    path = f"/provider/rentals/{rental}/stop"
    empty = provider.send(asked, path, reason="abuse")
    assert (empty.status_code, "staff decide by it" in empty.text) == (422, True)
    assert Rental.objects.get().state == "provisioning"
    done = provider.send(asked, path, reason="abuse", text="Scans the internet")
    assert (done.status_code, done["Location"]) == (303, "/provider/capacity")
    assert Rental.objects.get().state == "stopping"
    assert "Scans the internet" in provider.get("/provider/capacity").text


def test_a_foreign_rental_is_not_found(provider: Visitor) -> None:
    rental = rented(market.make_supply(1, region="us-east"))
    assert provider.get(f"/provider/rentals/{rental}/stop").status_code == 404
    assert provider.post(f"/provider/rentals/{rental}/stop").status_code == 404


def test_maintenance_is_announced_and_called_off(provider: Visitor, supply: market.Supply) -> None:
    page = provider.get("/provider/capacity")
    cluster = public("cluster", supply.cluster.pk)
    early = provider.send(page, "/provider/maintenance", what=cluster, starts_at="2020-01-01T10:00")
    assert (early.status_code, "a time to come" in early.text) == (422, True)
    fields = {
        "what": cluster,
        "starts_at": "2099-01-01T10:00",
        "ends_at": "2099-01-01T12:00",
        "note": "<b>Power</b>",
    }
    assert provider.send(page, "/provider/maintenance", **fields).status_code == 303
    shown = provider.get("/provider/capacity?month=2099-01")
    assert "&lt;b&gt;Power&lt;/b&gt;" in shown.text
    assert shown.text.count("calendar__entry") == 1
    assert f"{supply.cluster.name} <span" in shown.text
    assert provider.get("/provider/capacity?month=2099-13").status_code == 404
    row = Maintenance.objects.get()
    assert row.starts_at.isoformat() == "2099-01-01T10:00:00+00:00"
    off = provider.send(shown, f"/provider/maintenance/{row.public_id}/withdraw")
    assert off.status_code == 303
    assert "calendar__entry" not in provider.get("/provider/capacity?month=2099-01").text
    assert "Called off" in provider.get("/provider/capacity").text


def test_all_of_a_cluster_stops(provider: Visitor, supply: market.Supply) -> None:
    rented(supply)
    path = f"/provider/clusters/{public('cluster', supply.cluster.pk)}/stop"
    asked = provider.get(path)
    assert provider.send(asked, path, reason="maintenance", text="Smoke").status_code == 303
    assert Rental.objects.get().state == "stopping"
    assert Maintenance.objects.get().urgent
    assert "without notice" in provider.get("/provider/capacity").text


def test_the_times_of_an_offer(provider: Visitor, supply: market.Supply) -> None:
    path = f"/provider/offers/{supply.offer.public_id}/times"
    page = provider.get(path)
    half = provider.send(page, path, state="active", days=["sat"])
    assert (half.status_code, "Needed with days" in half.text) == (422, True)
    nights = {"days": ["sat", "sun"], "start": "20:00", "to": "08:00", "timezone": "Europe/Berlin"}
    nights |= {"egress": "internet"}  # what a browser sends of a list that nobody touched
    capped = provider.send(page, path, state="active", bandwidth_mbps="500", **nights)
    assert capped.status_code == 303
    assert supply.offer.group.bandwidth_mbps == 500
    less = provider.send(page, path, state="active", **{**nights, "egress": "web"})
    assert (less.status_code, "apply the provider bundle again" in less.text) == (422, True)
    assert supply.offer.windows == {
        "timezone": "Europe/Berlin",
        "weekly": [{"days": ["sat", "sun"], "from": "20:00", "to": "08:00"}],
    }
    assert "In its windows" in provider.get("/provider/offers").text
    again = provider.get(path)
    assert 'value="20:00"' in again.text
    nowhere = provider.send(page, path, state="active", **{**nights, "timezone": "Mars/Base"})
    assert nowhere.status_code == 422
    assert provider.send(page, path, state="paused", egress="internet").status_code == 303
    assert (supply.offer.state, supply.offer.windows) == ("paused", None)


def test_the_bundle_is_there_to_read(stranger: Visitor) -> None:
    page = stranger.get("/bundle/bundle.yaml")
    assert page.status_code == 200
    assert "kind: List" in page.text
    for name in ("..%2Freaper.py", "reaper.py", "x.yaml"):
        assert stranger.get(f"/bundle/{name}").status_code == 404


@pytest.fixture
def staff(transactional_db: None) -> Visitor:
    make_staff(email="staff@example.com", password="correct horse battery")
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


def test_staff_decide_with_a_reason(staff: Visitor, supply: market.Supply) -> None:
    rental = rented(supply)
    path = f"/provider/rentals/{rental}/stop-now"
    said = {"reason": "abuse", "text": "<script>mines</script>"}
    assert supply.owner.call("POST", path, said)[0] == 202
    page = staff.get("/staff/abuse")
    assert "&lt;script&gt;mines" in page.text
    report = AbuseReport.objects.get()
    form = f"/staff/abuse/{report.public_id}/decide"
    assert staff.send(page, form, decision="uphold").status_code == 422
    page = staff.get("/staff/abuse")
    assert staff.send(page, form, decision="uphold", note="Seen").status_code == 303
    report.refresh_from_db()
    assert (report.state, report.note) == ("upheld", "Seen")
    assert "Seen" in visitor_of(supply.owner).get("/provider/capacity").text
