"""The team's pages: inviting, joining by the link, roles, removal, and several organizations."""

from __future__ import annotations

import re

import pytest
from django.core import mail

from kernel.ids import public
from marketplace.accounts.mail import deliver
from marketplace.models import Invitation, Membership, User
from tests import market
from tests.area.marketplace_accounts import people
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, visitor_of

GUEST = "guest@example.com"


def invite(renter: Visitor, email: str = GUEST, role: str = "member") -> str:
    """Invite, and the path of the link in the mail."""
    answer = renter.send(renter.get("/team"), "/team", email=email, role=role)
    assert (answer.status_code, answer["Location"]) == (303, "/team")
    deliver()
    message = mail.outbox[-1]
    assert message.to == [email]
    found = re.search(r"https?://[^/]+(/invitation\S+)", str(message.body))
    assert found, message.body
    return found[1]


def signed_in(user: User) -> Visitor:
    visitor = Visitor()
    visitor.client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return visitor


def test_an_invited_stranger_makes_an_account_and_is_in(renter: Visitor, stranger: Visitor) -> None:
    path = invite(renter)
    assert GUEST in renter.get("/team").text
    page = stranger.get(path)
    assert page.status_code == 200
    assert Invitation.objects.get().accepted_at is None, "a mail scanner's GET takes nothing"
    weak = stranger.send(page, path, name="Grace", password="short", accept="on")
    assert weak.status_code == 422
    assert 'aria-invalid="true"' in weak.text
    done = stranger.send(page, path, name="Grace", password=PASSWORD, accept="on")
    assert (done.status_code, done["Location"]) == (303, "/")
    team = stranger.get("/team")
    assert "Grace" in team.text
    assert "Invite somebody" not in team.text, "only owners decide"
    again = Visitor().get(path)
    assert again.status_code == 422
    assert "was used, has expired or is incomplete" in again.text


def test_somebody_with_an_account_joins_and_chooses(renter: Visitor) -> None:
    guest = people.sign_up(GUEST, name="Their own")
    path = invite(renter, role="viewer")
    stranger = Visitor()
    page = stranger.get(path)
    refused = stranger.send(page, path, name="Grace", password=PASSWORD, accept="on")
    assert refused.status_code == 422
    assert "There is an account with this address" in refused.text
    visitor = signed_in(guest)
    assert "Work for it" not in visitor.get("/team").text
    done = visitor.send(visitor.get(path), path)
    assert done.status_code == 303
    theirs = renter.person.principal.org
    team = visitor.get("/team").text
    assert f"Who belongs to {theirs.name}" in team
    assert visitor.client.get("/api/v1/me").json()["organization"]["id"] == theirs.public_id
    own = Membership.objects.filter(user=guest).order_by("id")[0].organization
    back = visitor.post("/team/choose", {"organization": own.public_id})
    assert back.status_code == 303
    assert "Who belongs to Their own" in visitor.get("/team").text
    foreign = people.acting(people.sign_up()).org.public_id
    assert visitor.post("/team/choose", {"organization": foreign}).status_code == 404


def test_a_link_for_another_address_says_so_and_takes_nothing(renter: Visitor) -> None:
    path = invite(renter)
    other = signed_in(people.sign_up())
    page = other.get(path)
    assert "The invitation is for another address" in page.text
    assert other.post(path).status_code == 422
    assert Invitation.objects.get().accepted_at is None


def test_owners_change_and_remove_with_the_consequences_said(renter: Visitor) -> None:
    organization = renter.person.principal.org
    person = people.join_as(organization, "member")
    people.key_of(person, "account:read")
    path = f"/team/members/{public('user', person.id)}"
    page = renter.get(path)
    assert "1 API key made here ends at once" in page.text
    assert "stay, and go on costing" in page.text
    changed = renter.send(page, path, role="billing")
    assert changed.status_code == 303
    assert Membership.objects.get(user=person).role == "billing"
    theirs = signed_in(person)
    assert theirs.get("/team").status_code == 200
    boss = public("user", renter.person.principal.user.id)
    assert theirs.post(f"/team/members/{boss}/remove").status_code == 403
    gone = renter.send(renter.get(path), f"{path}/remove")
    assert (gone.status_code, gone["Location"]) == (303, "/team")
    assert theirs.get("/team").status_code == 403
    assert renter.get(path).status_code == 404


def test_the_last_owner_is_told_why_not(renter: Visitor) -> None:
    path = f"/team/members/{public('user', renter.person.principal.user.id)}"
    page = renter.get(path)
    assert "Leave the organization" in page.text
    for answer in (renter.send(page, path, role="viewer"), renter.send(page, f"{path}/remove")):
        assert answer.status_code == 409
        assert "last owner" in answer.text


def test_a_viewer_leaves_by_themselves(renter: Visitor) -> None:
    person = people.join_as(renter.person.principal.org, "viewer")
    theirs = signed_in(person)
    path = f"/team/members/{public('user', person.id)}"
    left = theirs.send(theirs.get(path), f"{path}/remove")
    assert (left.status_code, left["Location"]) == (303, "/")
    assert not Membership.objects.filter(user=person).exists()
    page = theirs.get("/rentals")
    assert page.status_code == 403
    assert "You belong to no organization any more" in page.text


def test_invitations_are_sent_again_and_withdrawn(renter: Visitor) -> None:
    path = invite(renter)
    row = Invitation.objects.get()
    page = renter.get("/team")
    sent = renter.send(page, f"/team/invitations/{row.public_id}/resend")
    assert sent.status_code == 303
    gone = renter.send(renter.get("/team"), f"/team/invitations/{row.public_id}/withdraw")
    assert gone.status_code == 303
    assert "Nobody is invited" in renter.get("/team").text
    assert Visitor().get(path).status_code == 422
    other = visitor_of(market.make_renter("Other"))
    for action in ("resend", "withdraw"):
        answer = other.post(f"/team/invitations/{row.public_id}/{action}", {"idempotency_key": "k"})
        assert answer.status_code == 404


def test_two_hundred_members_cost_as_many_queries_as_one(
    renter: Visitor, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    organization = renter.person.principal.org
    members = User.objects.bulk_create(
        User(email=f"{number}@example.com", password="!") for number in range(200)
    )
    Membership.objects.bulk_create(
        Membership(organization=organization, user=user, role="viewer") for user in members
    )
    Invitation.objects.bulk_create(
        Invitation(
            organization=organization,
            email=f"{number}@example.net",
            role="viewer",
            invited_by=renter.person.principal.user,
            expires_at="2036-01-01T00:00:00Z",
        )
        for number in range(200)
    )
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        text = renter.get("/team").text
    assert "199@example.com" in text
    assert "199@example.net" in text
