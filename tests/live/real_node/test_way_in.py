"""Into a machine that really runs: OpenSSH's own clients, through gateway and relay, to a pod of a
real kubelet with fake cards."""

from __future__ import annotations

import hashlib
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from playwright.sync_api import Page, expect

from devstack.platform_api import ProblemError
from devstack.play import await_state
from devstack.way_in import Client, open_way, rent, start_relay
from tests.browser.test_pages import Scale, judged
from tests.browsers import complaints_of
from tests.live.real_node.conftest import RealWorld, sign_in
from tests.sshpod import MIB, until

pytestmark = [pytest.mark.live, pytest.mark.slow, pytest.mark.timeout(600)]

Json = dict[str, Any]
# What is copied each way: the promise is tried with MIB_EACH_WAY=100.
COPIED = int(os.environ.get("MIB_EACH_WAY") or 24) * MIB


class Machine:
    """A rental on the real node with its way in, and the key that opens it."""

    def __init__(self, world: RealWorld, rental: Json, client: Client) -> None:
        self.world, self.id, self.client = world, rental["id"], client
        self.api = world.renter.api
        self.way = open_way(world.renter, self.id)

    def run(self, line: str, client: Client | None = None) -> subprocess.CompletedProcess[str]:
        return (client or self.client).run(self.way, line)

    def enter(self, client: Client | None = None) -> subprocess.Popen[str]:
        """A session that stays; it has said "in"."""
        words = (client or self.client).words(self.way, "echo in; exec sleep 600")
        session = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert session.stdout
        assert session.stdout.readline() == "in\n", session.communicate(timeout=30)
        return session

    def end(self) -> None:
        self.api.delete(f"/rentals/{self.id}")
        await_state(self.world.renter, self.id, "terminated")


@pytest.fixture(scope="module")
def client(real_world: RealWorld) -> Client:
    return Client.make(real_world.keys, "first")


@pytest.fixture(scope="module")
def machine(real_world: RealWorld, client: Client) -> Iterator[Machine]:
    """With two of the node's four cards."""
    made = Machine(real_world, rent(real_world.stack, real_world.renter, client, gpus=2), client)
    yield made
    made.end()


def listed(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("GPU ")]


def test_a_command_sees_exactly_the_ordered_cards(machine: Machine) -> None:
    done = machine.run("nvidia-smi -L")
    assert done.returncode == 0, done.stderr
    seen = listed(done.stdout)
    assert len(seen) == 2
    assert len(set(seen)) == 2
    rental = machine.api.get(f"/rentals/{machine.id}")
    assert rental["state"] == "running"
    events = machine.api.get(f"/rentals/{machine.id}/events")["items"]
    proof = next(event["evidence"] for event in events if event["state"] == "running")
    for uid in {line.split("UUID: ")[1].rstrip(")") for line in seen}:
        assert uid in str(proof), "what the check reported is what the renter has"


def test_files_arrive_whole_both_ways(machine: Machine, tmp_path: Path) -> None:
    sent, back = tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(COPIED))
    at = f"{machine.way['user']}@{machine.way['host']}"
    for source, target in ((str(sent), f"{at}:/tmp/there"), (f"{at}:/tmp/there", str(back))):
        words = ["scp", "-s", *machine.client.options(machine.way), "-P", str(machine.way["port"])]
        subprocess.run([*words, source, target], check=True, timeout=300, capture_output=True)
    there = machine.run("sha256sum /tmp/there").stdout.split()[0]
    sums = {hashlib.sha256(each.read_bytes()).hexdigest() for each in (sent, back)} | {there}
    assert len(sums) == 1


def test_keys_change_while_somebody_is_inside(machine: Machine, real_world: RealWorld) -> None:
    second = Client.make(real_world.keys, "second")
    assert machine.run("true", second).returncode == 255
    first_inside = machine.enter()
    both = [machine.client.public_key, second.public_key]
    machine.api.patch(f"/rentals/{machine.id}", {"ssh_keys": both})
    assert machine.run("echo in", second).stdout == "in\n", "at once, without a restart"
    second_inside = machine.enter(second)
    machine.api.patch(f"/rentals/{machine.id}", {"ssh_keys": [machine.client.public_key]})
    removed = time.monotonic()
    _, said = second_inside.communicate(timeout=30)
    took = time.monotonic() - removed
    print(f"a removed key's session ended after {took:.1f} s")
    assert took < 5
    assert "this key may not come in any more" in said
    assert machine.run("true", second).returncode == 255
    assert first_inside.poll() is None, "nobody else was disturbed"
    first_inside.kill()
    first_inside.communicate()
    rental = machine.api.get(f"/rentals/{machine.id}")
    assert rental["ssh_keys"] == [" ".join(machine.client.public_key.split()[:2])]


def test_another_tenants_key_never_gets_in(machine: Machine, real_world: RealWorld) -> None:
    stranger = Client.make(real_world.keys, "stranger")
    real_world.other.api.post("/ssh-keys", {"name": "mine", "public_key": stranger.public_key})
    own = rent(real_world.stack, real_world.other, stranger)
    way = open_way(real_world.other, own["id"])
    assert stranger.run(way, "echo in").stdout == "in\n"
    refused = machine.run("echo in", stranger)
    nobody = stranger.run({**way, "user": f"ren_{'0' * 26}"}, "echo in")
    assert (refused.returncode, refused.stdout) == (nobody.returncode, nobody.stdout) == (255, "")
    assert refused.stderr.split("@")[1:] == nobody.stderr.split("@")[1:], "and learns nothing"
    assert machine.run("echo in", machine.client).stdout == "in\n"
    with pytest.raises(ProblemError) as problem:
        real_world.other.api.get(f"/rentals/{machine.id}/visits")
    assert problem.value.status == 404
    real_world.other.api.delete(f"/rentals/{own['id']}")
    await_state(real_world.other, own["id"], "terminated")


def test_visits_are_written_down_without_what_was_said(machine: Machine) -> None:
    machine.run("echo something-secret")

    def latest() -> Json:
        items = machine.api.get(f"/rentals/{machine.id}/visits")["items"]
        return items[0] if items else {}

    until(lambda: bool(latest().get("ended_at")), "the visit is over in the book")
    visit = latest()
    assert visit["address"] == machine.way["host"], "on one machine both ends have that address"
    assert visit["fingerprint"].startswith("SHA256:")
    assert visit["bytes_in"] > 500
    assert visit["bytes_out"] > 500
    assert "something-secret" not in str(visit)


def test_the_machine_reports_its_cards(machine: Machine) -> None:
    """The reporter's figures, fifteen seconds apart, as a series."""

    def reported() -> list[Json]:
        metrics = machine.api.get(f"/rentals/{machine.id}/metrics")
        return [
            each
            for each in metrics["reported"]["series"]
            if each["metric"] == "gpu_percent" and any(v is not None for _, v in each["values"])
        ]

    until(lambda: len(reported()) == 2, "both cards were reported", deadline_s=60)


def test_its_page_has_the_command_and_what_its_cards_do(
    machine: Machine, real_world: RealWorld, page: Page
) -> None:
    """As a renter finds it: the command to copy, and charts that draw what the reporter told."""
    complaints = complaints_of(page, real_world.stack.base_url)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page, real_world, real_world.renter)
    page.goto(f"{real_world.stack.base_url}/rentals/{machine.id}")
    command = page.locator("#ssh-command")
    expect(command).to_have_text(machine.way["command"])
    page.locator("[data-copy='ssh-command']").click()
    expect(page.locator("[data-copy='ssh-command']")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == machine.way["command"]
    charts = page.locator("#rental-machine [data-chart]")
    expect(charts.first.locator("canvas")).to_be_visible(timeout=60_000)
    expect(charts.first).to_contain_text("%")
    assert judged(page, Scale(page)) == []
    assert complaints == []


def test_a_killed_gateway_lets_people_in_again_at_once(
    machine: Machine, real_world: RealWorld
) -> None:
    inside = machine.enter()
    real_world.stack.kill_process("gateway")
    assert inside.wait(timeout=30) == 255
    began = time.monotonic()
    real_world.stack.start_process("gateway")
    until(lambda: machine.run("echo in").stdout == "in\n", "in again", deadline_s=60)
    print(f"gateway started to the first session: {time.monotonic() - began:.1f} s")


def test_running_is_what_can_be_entered(real_world: RealWorld, client: Client) -> None:
    """Without a way in everything else may be as ordered: it is not called running, and free."""
    stack, api = real_world.stack, real_world.renter.api
    stack.kill_process("relay")
    rental = rent(stack, real_world.renter, client)
    path = f"/rentals/{rental['id']}"
    with psycopg.connect(stack.postgres.url, autocommit=True) as database:

        def refused() -> bool:
            """It was tried and found closed, after its pod was ready."""
            return bool(
                database.execute(
                    "SELECT 1 FROM provisioner_instance WHERE state = 'starting'"
                    " AND seen->>'trouble' = 'no_way_in'"
                ).fetchone()
            )

        until(refused, "all but the way in is there", deadline_s=60)
    # The rental follows its machine, a moment later.
    until(lambda: api.get(path)["state"] == "starting", "the rental shows it")
    found = api.get(path)
    assert (found["state"], found["access"]["ssh"], found["ready_at"]) == ("starting", None, None)
    start_relay(stack, real_world.provider)
    machine = Machine(real_world, rental, client)
    assert machine.run("echo in").stdout == "in\n"
    machine.end()


def test_stopped_and_started_it_has_its_name_and_its_data(
    real_world: RealWorld, client: Client
) -> None:
    api = real_world.renter.api
    offer = api.get("/offers?gpus=1&limit=1")["items"][0]
    volume = api.post(
        "/volumes", {"name": "data", "size_gib": 1, "datacenter": offer["datacenter"]}
    )
    mounts = [{"volume": volume["id"], "mount": "/data"}]
    rented = rent(real_world.stack, real_world.renter, client, volumes=mounts)
    machine = Machine(real_world, rented, client)
    assert machine.run("echo kept > /data/file && sync").returncode == 0
    inside = machine.enter()
    api.post(f"/rentals/{machine.id}/actions", {"action": "stop"})
    _, said = inside.communicate(timeout=60)
    assert "this machine is being stopped" in said
    await_state(real_world.renter, machine.id, "stopped")
    closed = machine.run("true")
    assert closed.returncode == 255
    api.post(f"/rentals/{machine.id}/actions", {"action": "start"})
    again = open_way(real_world.renter, machine.id)
    assert again["command"] == machine.way["command"], "one name for life"
    assert machine.run("cat /data/file").stdout == "kept\n"
    inside = machine.enter()
    api.delete(f"/rentals/{machine.id}")
    _, said = inside.communicate(timeout=60)
    assert "this machine was ended" in said
    await_state(real_world.renter, machine.id, "terminated")


def test_a_key_that_is_deleted_from_the_account_opens_nothing_any_more(
    machine: Machine, real_world: RealWorld
) -> None:
    laptop = Client.make(real_world.keys, "laptop")
    key = machine.api.post("/ssh-keys", {"name": "laptop", "public_key": laptop.public_key})
    machine.api.patch(
        f"/rentals/{machine.id}", {"ssh_keys": [machine.client.public_key, key["id"]]}
    )
    inside = machine.enter(laptop)
    machine.api.delete(f"/ssh-keys/{key['id']}")
    _, said = inside.communicate(timeout=30)
    assert "this key may not come in any more" in said
    assert machine.run("echo in").stdout == "in\n"


def test_an_owner_reads_what_the_relay_needs(real_world: RealWorld, page: Page) -> None:
    """On the cluster's page, once: what to run, with the values in it."""
    sign_in(page, real_world, real_world.provider)
    page.goto(f"{real_world.stack.base_url}/provider")
    page.locator("main a[href^='/provider/clusters/clu_']").first.click()
    relay = page.locator("[id^='relay-clu_']")
    expect(relay).to_contain_text("Renters get in to machines here through your relay.")
    relay.get_by_role("button", name="Show the relay's values").click()
    for name in ("cluster", "gateway", "relay.seed", "gateway.pub"):
        expect(page.locator("#relay-secret")).to_contain_text(f"--from-literal={name}=")
    expect(page.locator("#relay-apply")).to_contain_text("kubectl apply -f -")
    assert judged(page, Scale(page)) == []
