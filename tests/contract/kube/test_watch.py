"""Watches: order, resuming, selectors, bookmarks, an end in time, and a version that is too old."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from devstack.kube.api import Api
from provisioner.kube.errors import Rejected, Unsure
from provisioner.kube.watch import Seen, follow
from tests.contract.kube.conftest import SPACE, Kube, gone, pod, ready, until, version

Json = dict[str, Any]
_PATH = f"/api/v1/namespaces/{SPACE}/pods"


def watched(api: Api, since: str, **query: str) -> Iterator[Json]:
    given = {"timeoutSeconds": "15", **query}
    return api.watch(_PATH, silence_s=20, resourceVersion=since, **given)


def now(kube: Kube) -> str:
    found: str = kube.tenant.get(_PATH)["metadata"]["resourceVersion"]
    return found


def story(events: Iterator[Json], name: str) -> list[Json]:
    """Events of one pod up to its end."""
    told = []
    for event in events:
        if event["object"]["metadata"].get("name") == name:
            told.append(event)
            if event["type"] == "DELETED":
                return told
    raise AssertionError(f"the watch ended before {name}: {[e['type'] for e in told]}")


def test_the_life_of_a_pod_in_order(kube: Kube, name: str) -> None:
    since = now(kube)
    kube.api.create_pod(SPACE, pod(name))
    ready(kube, name)
    gone(kube, name)
    told = story(watched(kube.tenant, since), name)
    kinds = [event["type"] for event in told]
    assert kinds[0] == "ADDED"
    assert kinds[-1] == "DELETED"
    assert set(kinds[1:-1]) == {"MODIFIED"}
    versions = [version(event["object"]) for event in told]
    assert versions == sorted(set(versions)), "every change has a version of its own"
    nodes = [event["object"]["spec"].get("nodeName") for event in told]
    assert nodes[0] is None
    assert nodes[-1]
    assert len({event["object"]["metadata"]["uid"] for event in told}) == 1


def test_a_watch_resumes_where_another_ended(kube: Kube, name: str) -> None:
    since = now(kube)
    kube.api.create_pod(SPACE, pod(name))
    ready(kube, name)
    gone(kube, name)
    whole = story(watched(kube.tenant, since), name)
    half = whole[len(whole) // 2]
    rest = story(watched(kube.tenant, half["object"]["metadata"]["resourceVersion"]), name)
    assert rest == whole[len(whole) // 2 + 1 :]


def test_a_watch_without_a_version_begins_with_what_is(kube: Kube, name: str) -> None:
    kube.api.create_pod(SPACE, pod(name, cards=100))
    events = kube.tenant.watch(_PATH, silence_s=10, timeoutSeconds="5")
    first = next(event for event in events if event["object"]["metadata"]["name"] == name)
    assert first["type"] == "ADDED"


def test_events_come_while_they_happen(kube: Kube, name: str) -> None:
    since, seen = now(kube), []
    arrived = threading.Event()

    def listen() -> None:
        for event in watched(kube.tenant, since):
            seen.append((event["type"], time.monotonic()))
            arrived.set()
            return

    thread = threading.Thread(target=listen)
    thread.start()
    kube.api.create_pod(SPACE, pod(name))
    assert arrived.wait(10)
    thread.join()
    assert seen[0][0] == "ADDED"


def test_what_leaves_the_selection_is_deleted_for_that_watch(kube: Kube, name: str) -> None:
    since = now(kube)
    kube.api.create_pod(SPACE, pod(name, cards=100))
    label = {"metadata": {"labels": {"app.kubernetes.io/managed-by": "somebody"}}}
    kube.admin.patch(f"{_PATH}/{name}", label, "application/merge-patch+json")
    told = story(
        watched(kube.tenant, since, labelSelector="app.kubernetes.io/managed-by=gpuyard"), name
    )
    assert told[0]["type"] == "ADDED"
    other = watched(kube.tenant, since, labelSelector="app.kubernetes.io/managed-by=somebody")
    first = next(event for event in other if event["object"]["metadata"]["name"] == name)
    assert first["type"] == "ADDED", "for whom it comes into the selection it is new"


def bookmarked(kube: Kube, since: str, seconds: int) -> list[Json]:
    """All events of a watch that selects nothing, which lasts so long."""
    began = time.monotonic()
    events = list(
        watched(
            kube.tenant,
            since,
            timeoutSeconds=str(seconds),
            allowWatchBookmarks="true",
            labelSelector="nobody=has-this",
        )
    )
    assert seconds - 1 <= time.monotonic() - began < seconds + 6, "it ends in time"
    return events


def test_a_watch_that_shows_nothing_has_bookmarks(kube: Kube, name: str) -> None:
    since = now(kube)
    body = pod(name, cards=100)
    change = threading.Timer(1.0, lambda: kube.api.create_pod(SPACE, body))  # while it watches
    change.start()
    events = bookmarked(kube, since, 6)
    change.join()
    assert {event["type"] for event in events} == {"BOOKMARK"}
    assert version(events[-1]["object"]) > int(since)
    assert events[-1]["object"]["kind"] == "Pod"


def test_without_any_change_there_is_no_bookmark(kube: Kube) -> None:
    """So a client cannot tell a quiet cluster from a dead connection by bookmarks alone."""
    assert bookmarked(kube, now(kube), 4) == []


def test_a_version_that_is_none_is_refused(kube: Kube) -> None:
    """A 500, of all things, from both."""
    with pytest.raises(Unsure) as error:
        list(kube.api.watch_pods(SPACE, "abc", silence=5, seconds=2))
    assert error.value.code == "server_error"
    assert 'Invalid value: "abc"' in str(error.value)


def test_a_page_of_a_forgotten_list_is_expired(kube: Kube, name: str) -> None:
    token = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6MSwic3RhcnQiOiJhXHUwMDAwIn0"  # rv 1, start "a"
    if kube.kind == "real":
        pytest.skip("a real server forgets pages when etcd compacts, five minutes later")
    with pytest.raises(Rejected) as error:
        kube.client.request("GET", _PATH, query={"limit": "1", "continue": token})
    assert error.value.code == "expired"


def test_the_products_own_loop_follows_a_life(kube: Kube, name: str) -> None:
    """List, then watch from there, as the watcher process does."""
    kube.api.create_pod(SPACE, pod(name))
    seen: list[Seen] = []
    over = threading.Event()

    def run() -> None:
        for sighting in follow(kube.api, SPACE):
            seen.append(sighting)
            if sighting.kind == "DELETED" and sighting.pod["metadata"]["name"] == name:
                over.set()
                return

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until("it was listed or seen", lambda: seen)
    ready(kube, name)
    gone(kube, name)
    assert over.wait(10)
    assert seen[0].pod["metadata"]["name"] == name


def test_a_version_that_is_too_old_is_an_error_event(kube: Kube, name: str) -> None:
    """Both servers answer 200 and say it in the stream."""
    kube.api.create_pod(SPACE, pod(name, cards=100))
    if kube.kind == "sim":
        kube.faults.compact()
    else:  # it remembers what happened since its start
        plane = kube.stack.planes[kube.cluster.name]
        plane.stop_api_server()
        plane.start_api_server()
    (event,) = list(kube.api.watch_pods(SPACE, "1", silence=10, seconds=5))
    assert event["type"] == "ERROR"
    assert event["object"]["code"] == 410
    assert event["object"]["reason"] == "Expired"
    assert "too old resource version: 1 (" in event["object"]["message"]
