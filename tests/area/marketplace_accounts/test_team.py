"""Who belongs to an organization: invitations by mail, roles, removal, the last owner."""

from __future__ import annotations

import re
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.core import mail
from django.db import connection, transaction
from django.test import Client

from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import public
from marketplace.accounts import invitations, keys, letters
from marketplace.accounts import mail as mailing
from marketplace.accounts.access import principal_of
from marketplace.models import (
    ApiKey,
    AuditEntry,
    EmailToken,
    Invitation,
    Letter,
    Membership,
    Organization,
    User,
)
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import PASSWORD, Api

pytestmark = pytest.mark.django_db

GUEST = "guest@example.com"


@pytest.fixture
def boss(db: None) -> User:
    return people.sign_up("boss@example.com", name="Analytical Engines")


@pytest.fixture
def api(boss: User) -> Api:
    return people.api_of(boss)


def organization_of(user: User) -> Organization:
    return people.acting(user).org


def invited(api: Api, email: str = GUEST, role: str = "member") -> Any:
    made = api.post("members/invitations", {"email": email, "role": role})
    assert made.status_code == 201, made.content
    return made.data


def link(to: str = GUEST) -> str:
    """The proof in the newest mail to an address."""
    mailing.deliver()
    mine = [message for message in mail.outbox if message.to == [to]]
    found = re.search(r"/invitation\?token=(\S+)", str(mine[-1].body))
    assert found, mine[-1].body
    return found.group(1)


def accept(token: str, user: User) -> None:
    with transaction.atomic():
        invitations.accept(acting=principal_of(user), token=token)


def make_account(token: str, password: str = PASSWORD) -> User:
    with transaction.atomic():
        return invitations.accept_new(
            token=token, name="Grace", password=password, terms_version=settings.TERMS_VERSION
        )


def test_an_invitation_becomes_a_member_with_a_new_account(api: Api, boss: User) -> None:
    made = invited(api, email=GUEST.upper())
    assert (made["email"], made["role"], made["state"]) == (GUEST, "member", "open")
    token = link()
    assert token.partition(".")[2] not in str(list(EmailToken.objects.values()))
    user = make_account(token)
    assert (user.email, user.name) == (GUEST, "Grace")
    assert user.email_verified_at is not None, "the link came to the address"
    assert Membership.objects.get(user=user).organization == organization_of(boss)
    assert Organization.objects.count() == 1, "nobody's own was made"
    state = api.get(f"members/invitations/{made['id']}").data
    assert (state["state"], state["accepted_at"] is None) == ("accepted", False)
    actions = AuditEntry.objects.values_list("action", flat=True)
    assert {"invitation.create", "member.join"} <= set(actions)


def test_a_link_is_good_once(api: Api) -> None:
    invited(api)
    token = link()
    make_account(token)
    with pytest.raises(InvalidRequest, match="was used"):
        make_account(token)


def test_a_link_ends_after_seven_days_and_when_sent_again_or_withdrawn(api: Api) -> None:
    made = invited(api)
    first = link()
    EmailToken.objects.update(created_at=now() - timedelta(minutes=2))
    again = api.post(f"members/invitations/{made['id']}/resend")
    assert again.status_code == 200, again.content
    second = link()
    assert second != first
    with pytest.raises(InvalidRequest, match="was used"):
        make_account(first)
    Invitation.objects.update(expires_at=now() - timedelta(seconds=1))
    with pytest.raises(InvalidRequest, match="has expired"):
        make_account(second)
    Invitation.objects.update(expires_at=now() + timedelta(days=1))
    assert api.delete(f"members/invitations/{made['id']}").data["state"] == "withdrawn"
    with pytest.raises(InvalidRequest, match="was used"):
        make_account(second)
    late = api.post(f"members/invitations/{made['id']}/resend")
    assert (late.status_code, late.data["type"]) == (409, "/problems/invalid_transition")
    assert not User.objects.filter(email=GUEST).exists()


def test_sending_again_within_a_minute_sends_no_second_mail(api: Api) -> None:
    made = invited(api)
    assert api.post(f"members/invitations/{made['id']}/resend").status_code == 200
    mailing.deliver()
    assert len([message for message in mail.outbox if message.to == [GUEST]]) == 1


def test_somebody_with_an_account_joins_and_works_for_either(api: Api, boss: User) -> None:
    guest = people.sign_up(GUEST, name="Their own")
    own = organization_of(guest)
    invited(api, role="viewer")
    accept(link(), guest)
    assert principal_of(guest).org == own, "the first they joined, until they choose"
    joined = principal_of(guest, chosen=str(organization_of(boss).id))
    assert joined.org == organization_of(boss)
    assert "rentals:write" not in joined.scopes
    assert set(joined.organizations) == {own, organization_of(boss)}
    Membership.objects.filter(user=guest, organization=organization_of(boss)).delete()
    assert principal_of(guest, chosen=str(organization_of(boss).id)).org == own


def test_an_invitation_is_for_its_address_alone(api: Api) -> None:
    invited(api)
    token = link()
    other = people.sign_up("other@example.com")
    with pytest.raises(InvalidRequest, match="another address"):
        accept(token, other)
    unproven = people.sign_up(GUEST, verified=False)
    with pytest.raises(Refusal) as refused:
        accept(token, unproven)
    assert refused.value.slug == "email_unverified"
    assert Membership.objects.filter(user__in=[other, unproven]).count() == 2


def test_an_invitation_tells_nobody_whether_an_address_has_an_account(api: Api) -> None:
    people.sign_up("known@example.com")
    answers = []
    for email in ("known@example.com", "unknown@example.com"):
        answer = api.post("members/invitations", {"email": email, "role": "member"})
        volatile = {"id", "email", "created_at", "expires_at"}
        answers.append(
            (answer.status_code, {k: v for k, v in answer.data.items() if k not in volatile})
        )
    assert answers[0] == answers[1]
    mailing.deliver()
    texts = [
        re.sub(r"token=\S+|known|un", "", str(message.body))
        for message in mail.outbox
        if "You are invited" in str(message.subject)
    ]
    assert len(texts) == 2
    assert texts[0] == texts[1]


@pytest.mark.parametrize("role", ["member", "billing", "viewer"])
def test_only_owners_decide_about_people(boss: User, api: Api, role: str) -> None:
    person = people.join_as(organization_of(boss), role)
    theirs = people.api_of(person)
    other = people.join_as(organization_of(boss), "viewer")
    made = invited(api)
    refused = [
        theirs.post("members/invitations", {"email": "x@example.com", "role": "viewer"}),
        theirs.post(f"members/invitations/{made['id']}/resend"),
        theirs.delete(f"members/invitations/{made['id']}"),
        theirs.patch(f"members/{public('user', person.id)}", {"role": "owner"}),
        theirs.delete(f"members/{public('user', other.id)}"),
    ]
    assert [answer.status_code for answer in refused] == [403] * 5
    assert Membership.objects.get(user=person).role == role


def test_a_key_gives_no_role_that_may_do_more_than_it(boss: User) -> None:
    weak = people.api_of(boss, "account:read", "account:write")
    for role in ("owner", "member", "billing", "viewer"):
        answer = weak.post("members/invitations", {"email": GUEST, "role": role})
        assert (answer.status_code, list(answer.data["errors"])) == (422, ["role"]), role
    other = people.join_as(organization_of(boss), "viewer")
    answer = weak.patch(f"members/{public('user', other.id)}", {"role": "owner"})
    assert answer.status_code == 422
    assert Membership.objects.get(user=other).role == "viewer"


def test_a_role_changes_at_once_and_is_told(boss: User, api: Api) -> None:
    person = people.join_as(organization_of(boss), "member")
    robot = people.api_of(person, "account:read", "account:write")
    Letter.objects.all().delete()
    answer = api.patch(f"members/{public('user', person.id)}", {"role": "viewer"})
    assert (answer.status_code, answer.data["role"]) == (200, "viewer")
    assert robot.post("projects", {"name": "x"}).status_code == 403
    row = AuditEntry.objects.get(action="member.change")
    assert (row.details["from"], row.details["to"]) == ("member", "viewer")
    Letter.objects.update(created_at=now() - letters.WAIT)
    letters.post()
    mailing.deliver()
    told = {message.to[0] for message in mail.outbox if "is viewer now" in str(message.subject)}
    assert told == {boss.email, person.email}


def test_a_removed_member_is_out_at_once_with_every_key(boss: User, api: Api) -> None:
    person = people.join_as(organization_of(boss), "member")
    elsewhere = people.sign_up("third@example.com")
    Membership.objects.create(organization=organization_of(elsewhere), user=person, role="member")
    here = people.api_of(person, "account:read")
    with transaction.atomic():
        chosen = principal_of(person, chosen=str(organization_of(elsewhere).id))
        there = keys.create_key(
            acting=chosen, name="there", scopes=["account:read"], expires_at=None
        )
    browser = Client()
    browser.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    first = browser.get("/api/v1/me").json()["organization"]["name"]
    assert first == "Analytical Engines"
    assert api.delete(f"members/{public('user', person.id)}").status_code == 204
    assert here.get("me").status_code == 401
    assert Api(Client(), there.secret).get("me").status_code == 200, "keys of others live on"
    assert browser.get("/api/v1/me").json()["organization"]["name"] == "Acme"
    assert ApiKey.objects.filter(created_by=person, revoked_at=None).count() == 1
    row = AuditEntry.objects.get(action="member.remove")
    assert row.details["keys_revoked"] == 1
    mailing.deliver()
    (notice,) = [message for message in mail.outbox if message.to == [person.email]]
    assert "belongs to Analytical Engines no more" in str(notice.subject)


def test_what_an_owner_offered_ends_with_their_being_one(boss: User, api: Api) -> None:
    second = people.join_as(organization_of(boss), "owner")
    invited(people.api_of(second), role="owner")
    token = link()
    assert api.patch(f"members/{public('user', second.id)}", {"role": "viewer"}).status_code == 200
    with pytest.raises(InvalidRequest, match="was used"):
        make_account(token)


def test_the_last_owner_stays_one(boss: User, api: Api) -> None:
    people.join_as(organization_of(boss), "member")
    me = f"members/{public('user', boss.id)}"
    gone = people.join_as(organization_of(boss), "owner")
    gone.is_active = False
    gone.save()
    for answer in (api.patch(me, {"role": "member"}), api.delete(me)):
        assert (answer.status_code, answer.data["type"]) == (409, "/problems/invalid_transition")
    people.join_as(organization_of(boss), "owner")
    assert api.delete(me).status_code == 204
    assert api.get("me").status_code == 401
    assert AuditEntry.objects.filter(action="member.leave").count() == 1


@pytest.mark.django_db(transaction=True)
def test_two_owners_who_remove_each_other_leave_one() -> None:
    first = people.sign_up("first@example.com")
    organization = organization_of(first)
    second = people.join_as(organization, "owner")
    ready = threading.Barrier(2)
    answers: list[int] = []

    def run(caller: Api, victim: User) -> None:
        ready.wait()
        try:
            answers.append(caller.delete(f"members/{public('user', victim.id)}").status_code)
        finally:
            connection.close()

    pairs = [(people.api_of(first), second), (people.api_of(second), first)]
    threads = [threading.Thread(target=run, args=pair) for pair in pairs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 204 in answers
    assert Membership.objects.filter(organization=organization, role="owner").count() == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"email": "nothing", "role": "member"}, "email"),
        ({"email": GUEST, "role": "king"}, "role"),
        ({"email": GUEST}, "role"),
        ({"email": "boss@example.com", "role": "member"}, "email"),
    ],
)
def test_bad_invitations_name_the_field(api: Api, body: dict[str, str], field: str) -> None:
    answer = api.post("members/invitations", body)
    assert (answer.status_code, list(answer.data["errors"])) == (422, [field])
    assert Invitation.objects.count() == 0


def test_an_address_is_invited_once_and_a_day_has_a_bound(api: Api, boss: User) -> None:
    invited(api)
    twice = api.post("members/invitations", {"email": GUEST, "role": "viewer"})
    assert (twice.status_code, list(twice.data["errors"])) == (422, ["email"])
    Invitation.objects.update(expires_at=now())
    invited(api, role="viewer")
    Invitation.objects.bulk_create(
        Invitation(
            organization=organization_of(boss),
            email=f"{number}@example.com",
            role="viewer",
            invited_by=boss,
            expires_at=now(),
        )
        for number in range(50)
    )
    full = api.post("members/invitations", {"email": "more@example.com", "role": "viewer"})
    assert (full.status_code, full.data["type"]) == (403, "/problems/quota_exceeded")


def test_an_unproven_owner_invites_nobody(db: None) -> None:
    api = people.api_of(people.sign_up(verified=False))
    answer = api.post("members/invitations", {"email": GUEST, "role": "member"})
    assert (answer.status_code, answer.data["type"]) == (403, "/problems/email_unverified")


def test_projects_are_renamed_and_the_log_is_cut_by_time(api: Api) -> None:
    made = api.post("projects", {"name": "alpha"}).data
    api.post("projects", {"name": "beta"})
    assert api.patch(f"projects/{made['id']}", {"name": "beta"}).status_code == 422
    renamed = api.patch(f"projects/{made['id']}", {"name": "gamma"})
    assert (renamed.data["name"], renamed.data["version"]) == ("gamma", 2)
    assert api.get(f"projects/{made['id']}").data["name"] == "gamma"
    since = AuditEntry.objects.get(action="project.rename").ts.isoformat().replace("+00:00", "Z")
    (found,) = api.get(f"audit-log?from={since}").data["items"]
    assert found["action"] == "project.rename"
    assert api.get(f"audit-log?to={since}&action=project.rename").data["items"] == []
