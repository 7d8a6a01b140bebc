"""`make demo`: the main job from an empty machine to money, then a stack to look at.

Three rentals are played over the HTTP API as a customer's program would: one prepaid on owned
cards, one post-paid on a partner's, and one that is stopped, started and restarted. Every line says
what was done, when, and what was proven by looking at the other side: the API server, the ledger,
Stripe's stand-in.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from pathlib import Path
from types import FrameType
from typing import Any

from devstack.console import say
from devstack.debian import DebianError
from devstack.kube.binaries import find_binaries
from devstack.kube.build import BuildError
from devstack.kube.node.able import why_not
from devstack.kube.node.build import build_programs
from devstack.kube.witness import Witness
from devstack.life import play_life
from devstack.people import (
    PASSWORD,
    RENTER_SCOPES,
    Person,
    join,
    make_staff,
    save_card,
    top_up,
)
from devstack.platform_api import ProblemError
from devstack.play import Played, close_and_pay, play_rental, prove_books, prove_nothing_left
from devstack.process import ProcessError
from devstack.stack import REAL, Stack
from devstack.state import State, StateBusyError
from devstack.supply import SITES, onboard, put_on_sale
from devstack.way_in import furnish_real, play_way_in

Json = dict[str, Any]
HOME = Path(__file__).resolve().parents[1] / ".devstack"
ENDPOINTS = "endpoints.json"
# Real control planes, or simulated ones that are there in a second.
KUBES = ("real", "sim")
# Simulated nodes in two clusters, or one real node, which needs root.
NODES = ("sim", "real")


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM: end cleanly from wherever we are."""


def main(arguments: list[str]) -> int:
    """Exit status: 0 done, 1 something failed (said on standard error), 130 interrupted."""
    options = argparse.ArgumentParser(prog="devstack.demo", description=__doc__)
    options.add_argument("--once", action="store_true", default=bool(os.environ.get("ONCE")))
    options.add_argument("--kube", choices=KUBES, default=os.environ.get("KUBE") or KUBES[0])
    options.add_argument("--node", choices=NODES, default=os.environ.get("NODE") or NODES[0])
    given = options.parse_args(arguments)
    if given.node not in NODES:
        options.error(f"NODE is one of {', '.join(NODES)}, not {given.node!r}")
    if given.node == "real" and (reason := why_not()):
        print(f"gpuyard: {reason}; `make demo` without NODE=real works here", file=sys.stderr)
        return 1
    if given.kube not in KUBES:  # from the environment, which argparse does not check
        options.error(f"KUBE is one of {', '.join(KUBES)}, not {given.kube!r}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        with State.temporary("demo") if given.once else State.acquire(HOME) as state:
            if given.node == "real":
                return _run_real(state, once=given.once)
            return _run(state, once=given.once, kube=given.kube)
    except Interrupted:
        say("interrupted; everything is stopped")
        return 130
    except (ProcessError, ProblemError, StateBusyError, BuildError, DebianError, OSError) as error:
        print(f"gpuyard: {error}", file=sys.stderr)
        return 1


def _run(state: State, *, once: bool, kube: str) -> int:
    if kube == "real":
        find_binaries()  # built before anything waits for it: minutes on the first run
    stack = Stack(state, kube=kube)
    try:
        stack.start()
        people = furnish(stack)
        play(stack, people)
        if once:
            return 0
        _publish(stack, people)
        _greet(stack, people)
        threading.Event().wait()
        return 0
    finally:
        (state.path / ENDPOINTS).unlink(missing_ok=True)
        stack.stop()


def _run_real(state: State, *, once: bool) -> int:
    """One cluster with one real node, in which pods really run and are entered."""
    find_binaries()
    build_programs()
    stack = Stack(state, clusters=(REAL,))
    try:
        stack.start()
        people = {"staff": make_staff(stack, "staff@example.com")}
        people["provider"] = furnish_real(stack, people["staff"])
        people["renter"] = join(stack, "renter@example.com", "Prepaid Labs", RENTER_SCOPES)
        top_up(stack, people["renter"], "5000.00")
        play_way_in(stack, people["renter"])
        if not once:
            _publish(stack, people)
            _greet(stack, people)
            threading.Event().wait()
        return 0
    finally:
        (state.path / ENDPOINTS).unlink(missing_ok=True)
        stack.stop()


def furnish(stack: Stack) -> dict[str, Person]:
    """Staff, two providers with their clusters on sale, three renting organizations."""
    people = {"staff": make_staff(stack, "staff@example.com")}
    for site in SITES:
        provider = onboard(stack, people["staff"], site)
        offers = put_on_sale(provider)
        if site.ownership == "partner":
            people["provider"] = provider
        kinds = ", ".join(sorted({offer["accelerator"] for offer in offers}))
        say(f"{site.cluster} ({site.ownership}) is connected; on sale: {kinds}")
    people["renter"] = join(stack, "renter@example.com", "Prepaid Labs", RENTER_SCOPES)
    people["second_renter"] = join(stack, "second@example.com", "Second Labs", RENTER_SCOPES)
    people["postpaid"] = join(stack, "postpaid@example.com", "Postpaid Labs", RENTER_SCOPES)
    # Credit for many rentals: whoever explores the demo should not meet an empty balance first.
    top_up(stack, people["renter"], "5000.00")
    top_up(stack, people["second_renter"], "500.00")
    say("two organizations topped up on Stripe's hosted page")
    save_card(stack, people["postpaid"])
    people["staff"].api.post(
        f"/staff/organizations/{people['postpaid'].organization}/limit",
        {"credit_limit": "1000.00"},
    )
    say("a third saved a card and was given a credit limit")
    return people


def play(stack: Stack, people: dict[str, Person]) -> list[Played]:
    """One prepaid rental on owned cards, one post-paid on a partner's, a life, and the proofs."""
    witnesses = {
        name: Witness(cluster.admin_kubeconfig).start() for name, cluster in stack.clusters.items()
    }
    try:
        prepaid = play_rental(
            stack, people["renter"], witnesses["dc-owned"], ownership="owned", gpus=2
        )
        # A whole machine of the dearest cards: Stripe charges nothing under half a dollar, and
        # nobody wants to watch one small card for an hour.
        postpaid = play_rental(
            stack,
            people["postpaid"],
            witnesses["dc-partner"],
            ownership="partner",
            gpus=8,
            order="-price",
            worth="0.55",
        )
        close_and_pay(people["staff"], people["postpaid"], postpaid)
        play_life(people["second_renter"], witnesses["dc-owned"])
        prove_books(stack, people["staff"], [prepaid, postpaid])
        prove_nothing_left(witnesses, [prepaid, postpaid])
        return [prepaid, postpaid]
    finally:
        for witness in witnesses.values():
            witness.stop()


def _publish(stack: Stack, people: dict[str, Person]) -> None:
    """endpoints.json by rename: whoever sees it may use all that it names."""
    found: Json = {
        "base_url": stack.base_url,
        "database_url": stack.postgres.url,
        "facts_url": stack.postgres.facts_url,
        "broker_url": stack.env["BROKER_URL"],
        "stripe_api_base": stack.stripe_url,
        "kubeconfigs": {
            name: str(cluster.admin_kubeconfig) for name, cluster in stack.clusters.items()
        },
        "api_keys": {name: person.key for name, person in people.items()},
        "logins": {name: person.email for name, person in people.items()},
        "password": PASSWORD,
        "app_secrets": {name: one.app_secret for name, one in people.items() if one.app_secret},
        "mail": str(stack.mail),
        "env": stack.env,
    }
    part = stack.state.path / f"{ENDPOINTS}.part"
    part.touch(mode=0o600)  # it holds keys
    part.write_text(json.dumps(found, indent=2) + "\n")
    part.rename(stack.state.path / ENDPOINTS)


def _greet(stack: Stack, people: dict[str, Person]) -> None:
    rows = "\n".join(
        f"    {name:14} {person.email}"
        + (f", with an authenticator app that holds {person.app_secret}" * bool(person.app_secret))
        for name, person in people.items()
    )
    print(
        f"\nThe portal serves at {stack.base_url}\n"
        f"  demo logins, all with the password {PASSWORD}:\n{rows}\n"
        f"  mail lies in {stack.mail}\n"
        f"  addresses and keys for programs: {stack.state.path / ENDPOINTS}\n"
        "Ctrl-C ends it and leaves nothing behind.",
        flush=True,
    )


def _interrupt(number: int, frame: FrameType | None) -> None:
    for again in (signal.SIGINT, signal.SIGTERM):
        signal.signal(again, signal.SIG_IGN)  # the clean end is under way and bounded
    raise Interrupted


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
