"""How roles and audited actions read to people: data, translatable.

A test holds the actions together with what the code records.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from marketplace.models import Membership

Text = str | Promise


@dataclass(frozen=True)
class RoleWord:
    """A role by name, and what it may do."""

    label: Text
    text: Text


ROLES: Final[dict[str, RoleWord]] = {
    Membership.Role.OWNER.value: RoleWord(
        pgettext_lazy("role", "Owner"),
        _("Does everything: people, money, rentals, offers of cards."),
    ),
    Membership.Role.MEMBER.value: RoleWord(
        _("Member"), _("Rents and changes rentals, keys and secrets; sees the money.")
    ),
    Membership.Role.BILLING.value: RoleWord(
        pgettext_lazy("role", "Billing"),
        _("Tops up, saves cards, sets budgets; sees everything, rents nothing."),
    ),
    Membership.Role.VIEWER.value: RoleWord(_("Viewer"), _("Sees everything, changes nothing.")),
}

# What an audit row says was done. What begins with "rental.stop." or "rental.end." was done by the
# platform; its reason follows.
DEEDS: Final[dict[str, Text]] = {
    "abuse.dismissed": _("Abuse report dismissed"),
    "abuse.report": _("Abuse reported"),
    "abuse.upheld": _("Abuse report confirmed"),
    "adjustment.approve": _("Correction approved"),
    "adjustment.decline": _("Correction declined"),
    "adjustment.order": _("Correction ordered"),
    "api_key.create": _("API key made"),
    "api_key.revoke": _("API key revoked"),
    "auto_topup.set": _("Automatic top-up set"),
    "brake.release": _("Brake released"),
    "break.note": _("Note on a difference in the books"),
    "break.owner": _("A difference in the books was given to somebody"),
    "break.resolve": _("A difference in the books was explained"),
    "budget.change": _("Budget changed"),
    "budget.create": _("Budget set"),
    "budget.delete": _("Budget deleted"),
    "card_cost.forget": _("Kept figures of a card deleted"),
    "card_cost.save": _("Figures of a card kept"),
    "card_setup.start": _("Began to save a card"),
    "cluster.create": _("Cluster registered"),
    "cluster.drain": _("Cluster taken off sale"),
    "cluster.preflight": _("Cluster checked anew"),
    "cluster.replace_relay": _("Relay key replaced"),
    "cluster.replace_token": _("Cluster token replaced"),
    "cluster.show_relay": _("Relay values shown"),
    "credit_note.approve": _("Credit note approved"),
    "credit_note.decline": _("Credit note declined"),
    "credit_note.order": _("Credit note ordered"),
    "database.restored": _("Database restored from a backup"),
    "datacenter.create": _("Data centre added"),
    "datacenter.disk_price": _("Disk price set"),
    "dispute.evidence": _("Evidence for a dispute sent"),
    "fee.change": _("Fee change announced"),
    "fee.withdraw": _("Fee change called off"),
    "incident.approve": _("Incident credit approved"),
    "incident.create": _("Incident opened"),
    "incident.order": _("Incident credit ordered"),
    "incident.post": _("Incident credit posted"),
    "incident.withdraw": _("Incident withdrawn"),
    "invitation.create": _("Invited somebody"),
    "invitation.resend": _("Sent an invitation again"),
    "invitation.withdraw": _("Invitation withdrawn"),
    "invoice.write_off": _("Invoice written off"),
    "maintenance.open": _("Maintenance announced"),
    "maintenance.withdraw": _("Maintenance called off"),
    "member.change": _("Role changed"),
    "member.join": _("Joined the organization"),
    "member.leave": _("Left the organization"),
    "member.remove": _("Removed somebody"),
    "month.lock": _("Month locked"),
    "node.cordon": _("Host taken off sale"),
    "node.release": _("Host released from quarantine"),
    "node.uncordon": _("Host put on sale"),
    "offer.set": _("Offer changed"),
    "organization.close_period": _("Invoiced ahead of time"),
    "organization.create": _("Organization founded"),
    "organization.freeze": _("Organization frozen"),
    "organization.limit": _("Limits set"),
    "organization.look_begin": _("Staff began to look as you do"),
    "organization.look_end": _("Staff stopped looking as you do"),
    "organization.release_earnings": _("Earnings released"),
    "organization.unfreeze": _("Organization unfrozen"),
    "portal_session.start": _("Opened Stripe's billing pages"),
    "problem.answered": _("Problem report answered"),
    "problem.closed": _("Problem report closed"),
    "problem.report": _("Problem reported"),
    "project.create": _("Project made"),
    "project.rename": _("Project renamed"),
    "promotion.approve": _("Free credit approved"),
    "promotion.decline": _("Free credit declined"),
    "promotion.order": _("Free credit ordered"),
    "provider.apply": _("Applied to offer cards"),
    "provider.approve": _("Approved as a provider"),
    "provider.change": _("Provider's details changed"),
    "provider.payout_account": _("Payout account opened for a change"),
    "provider.payout_hold": _("Payouts held"),
    "provider.payout_release": _("Payouts released"),
    "refund.approve": _("Refund approved"),
    "refund.decline": _("Refund declined"),
    "refund.order": _("Refund ordered"),
    "registry_credential.change": _("Registry credentials changed"),
    "registry_credential.create": _("Registry credentials stored"),
    "registry_credential.delete": _("Registry credentials deleted"),
    "rental.change": _("Rental changed"),
    "rental.extend": _("End date moved"),
    "rental.link": _("Link to a port made"),
    "rental.restart": _("Restarted"),
    "rental.retry": _("Tried again"),
    "rental.start": _("Rented or started"),
    "rental.stop": _("Stopped"),
    "rental.stop_now": _("Stopped by the cards' owner"),
    "rental.terminate": _("Ended"),
    "saved_search.create": _("Search saved"),
    "saved_search.delete": _("Saved search deleted"),
    "second_factor.disable": _("Second factor off"),
    "second_factor.enable": _("Second factor on"),
    "second_factor.recovery_code": _("Recovery code used"),
    "second_factor.recovery_codes": _("New recovery codes"),
    "secret.change": _("Secret changed"),
    "secret.create": _("Secret stored"),
    "secret.delete": _("Secret deleted"),
    "ssh_key.create": _("SSH key stored"),
    "ssh_key.delete": _("SSH key deleted"),
    "staff.make": _("Made a member of staff"),
    "switch.off": _("Switch of the platform turned off"),
    "switch.on": _("Switch of the platform turned on"),
    "tax_profile.set": _("Tax details set"),
    "template.change": _("Template changed"),
    "template.create": _("Template made"),
    "template.delete": _("Template deleted"),
    "topup.start": _("Top-up begun"),
    "user.reset_password": _("New password set"),
    "user.verify_email": _("E-mail address confirmed"),
    "volume.change": _("Volume changed"),
    "volume.create": _("Volume made"),
    "volume.delete": _("Volume deleted"),
    "webhook.change": _("Webhook changed"),
    "webhook.create": _("Webhook made"),
    "webhook.delete": _("Webhook deleted"),
    "webhook.disable": _("Webhook switched off by the platform"),
    "webhook.redeliver": _("Webhook sent again"),
    "webhook.rotate_secret": _("Webhook secret replaced"),
    "webhook.test": _("Webhook tried"),
}
_PLATFORM: Final[dict[str, Text]] = {
    "rental.stop.": _("Stopped by the platform"),
    "rental.end.": _("Ended by the platform"),
}
# Where an object of an audit row is shown, by the prefix of its id; the others have no page.
PLACES: Final[dict[str, str]] = {
    "bud": "/billing/budgets",
    "chg": "/charges/{}",
    "clu": "/provider/clusters/{}/preflight",
    "inv": "/billing/invoices/{}",
    "ivt": "/team#invitations",
    "key": "/api-keys",
    "org": "/settings",
    "po": "/provider/payouts",
    "prj": "/projects",
    "prv": "/provider",
    "ren": "/rentals/{}",
    "sec": "/secrets",
    "ssh": "/ssh-keys",
    "top": "/billing/topups/{}",
    "tpl": "/templates/{}",
    "usr": "/team",
    "vol": "/volumes/{}",
    "whk": "/webhooks/{}",
}


def deed(action: str) -> Text:
    """What was done, in words; an unknown action reads as it is written."""
    if action in DEEDS:
        return DEEDS[action]
    for prefix, text in _PLATFORM.items():
        if action.startswith(prefix):
            return text
    return action.replace(".", " ").replace("_", " ").capitalize()


def place(object_id: str) -> str:
    """The page of an object; empty where it has none."""
    return PLACES.get(object_id.partition("_")[0], "").format(object_id)
