"""API keys and SSH keys over the API; what is stored, what is shown, when a key is dead."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from django.test import Client

from kernel.clock import now
from marketplace.models import ApiKey, Membership, SshKey, User
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api


def make(owner: Api, **changes: Any) -> Any:
    return owner.post("api-keys", {"name": "robot", "scopes": ["account:read"], **changes})


def new_ssh_line() -> str:
    public = ed25519.Ed25519PrivateKey.generate().public_key()
    return public.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()


def test_only_a_hash_of_the_secret_is_stored(owner: Api) -> None:
    made = make(owner)
    row = ApiKey.objects.get(name="robot")
    assert made.data["secret"].startswith(f"gy_live_{row.public_id[4:]}_")
    body = made.data["secret"].removeprefix(f"gy_live_{row.public_id[4:]}_")
    assert bytes(row.secret_hash) == hashlib.sha256(body.encode()).digest()
    assert body not in owner.get("api-keys").content.decode()


def test_a_revoked_key_is_dead_with_the_next_request_and_stays_readable(owner: Api) -> None:
    made = make(owner)
    robot = Api(Client(), made.data["secret"])
    assert robot.get("me").status_code == 200
    gone = owner.delete(f"api-keys/{made.data['id']}")
    assert (gone.status_code, gone.data["state"], gone.data["actions"]) == (200, "revoked", [])
    assert robot.get("me").status_code == 401
    again = owner.delete(f"api-keys/{made.data['id']}")
    assert again.data == gone.data
    assert owner.get(f"api-keys/{made.data['id']}").data["state"] == "revoked"


def test_an_expired_key_is_dead(owner: Api) -> None:
    made = make(owner, expires_at="2036-01-01T00:00:00Z")
    robot = Api(Client(), made.data["secret"])
    assert robot.get("me").status_code == 200
    ApiKey.objects.filter(name="robot").update(expires_at=now())
    assert robot.get("me").status_code == 401
    assert owner.get(f"api-keys/{made.data['id']}").data["state"] == "expired"


def test_a_key_loses_what_its_maker_lost(db: None) -> None:
    boss = people.sign_up()
    organization = people.acting(boss).org
    member = people.join_as(organization, Membership.Role.MEMBER)
    robot = people.api_of(member, "account:read", "account:write")
    assert robot.post("projects", {"name": "alpha"}).status_code == 201
    Membership.objects.filter(user=member).update(role=Membership.Role.VIEWER)
    assert robot.post("projects", {"name": "beta"}).status_code == 403
    assert robot.get("projects").status_code == 200
    member.is_active = False
    member.save()
    assert robot.get("me").status_code == 401
    User.objects.filter(pk=member.pk).update(is_active=True)
    assert robot.get("me").status_code == 200
    Membership.objects.filter(user=member).delete()
    assert robot.get("me").status_code == 401


def test_a_former_member_of_staff_has_a_dead_staff_key(db: None) -> None:
    person = people.staff()
    robot = people.api_of(person)
    assert robot.get("staff/providers").status_code == 200
    person.is_staff = False
    person.save()
    assert robot.get("staff/providers").status_code == 403


def test_a_key_cannot_make_a_stronger_key(db: None) -> None:
    weak = people.api_of(people.sign_up(), "account:read", "account:write")
    answer = weak.post("api-keys", {"name": "strong", "scopes": ["billing:write"]})
    assert answer.status_code == 422
    assert answer.data["errors"] == {
        "scopes": ['you do not have the scope "billing:write" yourself']
    }
    for scope in ("staff", "everything"):
        refused = people.owner().post("api-keys", {"name": "strong", "scopes": [scope]})
        assert refused.status_code == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "x", "scopes": []}, "scopes"),
        ({"name": "", "scopes": ["account:read"]}, "name"),
        ({"name": 7, "scopes": ["account:read"]}, "name"),
        ({"name": "x", "scopes": "account:read"}, "scopes"),
        (
            {"name": "x", "scopes": ["account:read"], "expires_at": "2020-01-01T00:00:00Z"},
            "expires_at",
        ),
        ({"name": "x", "scopes": ["account:read"], "expires_at": "soon"}, "expires_at"),
        ({"name": "x", "scopes": ["account:read"], "scope": "y"}, "scope"),
        ([], "body"),
        ("text", "body"),
    ],
)
def test_bad_key_requests_name_the_field(owner: Api, body: Any, field: str) -> None:
    before = ApiKey.objects.count()
    answer = owner.post("api-keys", f'"{body}"' if isinstance(body, str) else body)
    assert (answer.status_code, list(answer.data["errors"])) == (422, [field])
    assert ApiKey.objects.count() == before


@pytest.mark.parametrize(
    "token",
    [
        "",
        "x",
        "gy_live_",
        "gy_live_0_0",
        "gy_live_" + "0" * 26 + "_" + "A" * 43,
        "gy_live_" + "0" * 26 + "_\u00e9",
        "gy_test_" + "0" * 26 + "_" + "A" * 43,
    ],
)
def test_made_up_tokens_are_unauthenticated(anyone: Api, token: str) -> None:
    answer = anyone.get("me", Authorization=f"Bearer {token}")
    assert (answer.status_code, answer.data["type"]) == (401, "/problems/unauthenticated")
    assert answer["WWW-Authenticate"].startswith("Bearer")


def test_a_wrong_secret_of_a_real_key_is_unauthenticated(owner: Api) -> None:
    changed = owner.key[:-1] + ("A" if owner.key[-1] != "A" else "B")
    assert people.anonymous().get("me", Authorization=f"Bearer {changed}").status_code == 401
    basic = people.anonymous().get("me", Authorization=f"Basic {owner.key}")
    assert basic.status_code == 401


def test_ssh_keys_are_kept_once_and_deleted(owner: Api) -> None:
    line = new_ssh_line()
    made = owner.post("ssh-keys", {"name": "laptop", "public_key": f"{line} ada@laptop"})
    assert (made.status_code, made.data["public_key"]) == (201, line)
    twice = owner.post("ssh-keys", {"name": "again", "public_key": line})
    assert twice.status_code == 422
    assert made.data["id"] in twice.data["errors"]["public_key"][0]
    other = people.owner()
    assert other.post("ssh-keys", {"name": "shared", "public_key": line}).status_code == 201
    assert other.get(f"ssh-keys/{made.data['id']}").status_code == 404
    assert other.delete(f"ssh-keys/{made.data['id']}").status_code == 404
    assert owner.delete(f"ssh-keys/{made.data['id']}").status_code == 204
    assert owner.get(f"ssh-keys/{made.data['id']}").status_code == 404
    assert SshKey.objects.count() == 1


def test_a_bad_ssh_key_is_refused_and_not_stored(owner: Api) -> None:
    answer = owner.post("ssh-keys", {"name": "x", "public_key": f"no-pty {new_ssh_line()}"})
    assert (answer.status_code, answer.data["type"]) == (422, "/problems/ssh_key_invalid")
    assert SshKey.objects.count() == 0


def test_lists_page_stably_while_rows_are_added(owner: Api) -> None:
    names = [f"p{number}" for number in range(5)]
    for name in names:
        owner.post("projects", {"name": name})
    first = owner.get("projects?limit=2")
    owner.post("projects", {"name": "later"})
    second = owner.get(f"projects?limit=2&cursor={first.data['next_cursor']}")
    third = owner.get(f"projects?limit=2&cursor={second.data['next_cursor']}")
    shown = [row["name"] for page in (first, second, third) for row in page.data["items"]]
    assert shown == names[::-1]
    assert third.data["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "slug"),
    [
        ("cursor=!!!", "invalid_cursor"),
        ("cursor=e30", "invalid_cursor"),
        ("cursor=WyJ4Il0", "invalid_cursor"),
        ("cursor=WyJcdTAwMDAiXQ", "invalid_cursor"),
        ("limit=0", "invalid_filter"),
        ("limit=201", "invalid_filter"),
        ("limit=-1", "invalid_filter"),
        ("limit=ten", "invalid_filter"),
        ("limit=1&limit=2", "invalid_filter"),
        ("limt=1", "unknown_filter"),
        ("name=x", "unknown_filter"),
    ],
)
def test_bad_paging_is_named(owner: Api, query: str, slug: str) -> None:
    answer = owner.get(f"projects?{query}")
    assert (answer.status_code, answer.data["type"]) == (400, f"/problems/{slug}")
    if query == "limt=1":
        assert answer.data["nearest"] == "limit"


def test_members_and_audit_log_show_one_organization(owner: Api) -> None:
    people.owner().post("projects", {"name": "theirs"})
    owner.post("projects", {"name": "mine"})
    assert len(owner.get("members").data["items"]) == 1
    rows = owner.get("audit-log?action=project.create").data["items"]
    assert [row["details"] for row in rows] == [{"name": "mine"}]
    assert rows[0]["actor"].startswith("key:key_")
