"""HTML of the hosted pages: card form, challenge, and plain notices. No script, no assets."""

from html import escape

_STYLE = """
:root{color-scheme:light}
body{font:16px/1.5 system-ui,sans-serif;margin:0;background:#f4f5f7;color:#1a1f36}
main{max-width:26rem;margin:8vh auto;background:#fff;padding:2rem;border-radius:12px;
box-shadow:0 2px 12px rgba(0,0,0,.08)}
h1{font-size:1.15rem;margin:0 0 .25rem}
.amount{font-size:2rem;font-weight:600;margin:.25rem 0 1rem}
label{display:block;margin:.75rem 0 .25rem;font-size:.875rem}
input{width:100%;box-sizing:border-box;padding:.6rem;border:1px solid #697386;border-radius:6px;
font:inherit;background:#fff;color:inherit}
.triple{display:grid;grid-template-columns:1fr 1fr 1fr;gap:.75rem}
button{width:100%;padding:.75rem;border:0;border-radius:6px;font:inherit;font-weight:600;
margin-top:1rem;cursor:pointer;background:#3d4eac;color:#fff}
button.plain{background:none;color:#3c4257;border:1px solid #697386}
button:focus-visible,input:focus-visible{outline:3px solid #8a93d8;outline-offset:2px}
[role=alert]{background:#fdecea;color:#8c1d18;padding:.75rem;border-radius:6px;margin:1rem 0}
.note{font-size:.8rem;color:#4f566b;margin-top:1.5rem}
ul{padding-left:1.1rem;margin:.5rem 0;font-size:.9rem}
"""


def page(title: str, body: str) -> str:
    """A whole document around a body."""
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}'
        '</title><meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<style>{_STYLE}</style></head><body><main>{body}"
        '<p class="note">Simulated payment page. No real card works here; use the test numbers '
        "of Stripe's documentation, such as 4242 4242 4242 4242.</p>"
        "</main></body></html>"
    )


def dollars(cents: int) -> str:
    """Cents as text, e.g. $12.50."""
    return f"${cents // 100:,}.{cents % 100:02}"


def card_form(
    *,
    title: str,
    amount: int | None,
    lines: list[str],
    email: str,
    ask_email: bool,
    error: str | None,
    can_cancel: bool,
    filled: dict[str, str],
    ask_address: bool = False,
) -> str:
    """The page with the card form. `amount` None means that a card is saved, not charged."""
    what = f'<p class="amount">{dollars(amount)}</p>' if amount is not None else ""
    listed = "".join(f"<li>{escape(line)}</li>" for line in lines)
    alert = f'<div role="alert">{escape(error)}</div>' if error else ""
    button = f"Pay {dollars(amount)}" if amount is not None else "Save card"
    email_field = (
        field("email", "Email", "email", filled.get("email", email), "email")
        if ask_email
        else (f"<p>{escape(email)}</p>" if email else "")
    )
    place = (
        field("country", "Country (two letters)", "country", filled.get("country", ""), "text")
        + field(
            "postal_code",
            "Postal code",
            "postal-code",
            filled.get("postal_code", ""),
            "text",
            required=False,
        )
        + f'<input type="hidden" name="total" value="{amount}">'
        if ask_address
        else ""
    )
    cancel = (
        '<button class="plain" name="action" value="cancel" formnovalidate>Cancel</button>'
        if can_cancel
        else ""
    )
    body = (
        f"<h1>{escape(title)}</h1>{what}<ul>{listed}</ul>{alert}"
        f'<form method="post">{email_field}{card_fields(filled)}{place}'
        f'<button name="action" value="pay">{button}</button>{cancel}</form>'
    )
    return page(title, body)


def card_fields(filled: dict[str, str]) -> str:
    """The inputs that read_card reads."""
    return (
        field("card_number", "Card number", "cc-number", filled.get("card_number", ""))
        + '<div class="triple"><div>'
        + field("exp_month", "Month", "cc-exp-month", filled.get("exp_month", ""))
        + "</div><div>"
        + field("exp_year", "Year", "cc-exp-year", filled.get("exp_year", ""))
        + "</div><div>"
        + field("cvc", "CVC", "cc-csc", "")
        + "</div></div>"
        + field("name", "Name on card", "cc-name", filled.get("name", ""), "text", required=False)
    )


def field(
    name: str,
    label: str,
    complete: str,
    value: str,
    mode: str = "numeric",
    *,
    required: bool = True,
) -> str:
    """A labelled input; `complete` is its autocomplete token, `mode` its input mode."""
    return (
        f'<label for="{name}">{label}</label><input id="{name}" name="{name}" '
        f'{"required " if required else ""}autocomplete="{complete}" inputmode="{mode}" '
        f'value="{escape(value)}">'
    )


def challenge(amount: int | None) -> str:
    """The bank's challenge page."""
    what = f" of {dollars(amount)}" if amount is not None else ""
    return page(
        "Authentication",
        f"<h1>Your bank asks you to confirm this payment{what}</h1>"
        '<form method="post">'
        '<button name="action" value="complete">Complete authentication</button>'
        '<button class="plain" name="action" value="fail">Fail authentication</button></form>',
    )


def onboarding(error: str | None, filled: dict[str, str]) -> str:
    """The page on which the owner of a connected account signs up for payouts."""
    alert = f'<div role="alert">{escape(error)}</div>' if error else ""
    return page(
        "Get paid",
        f"<h1>Tell us where your payouts go</h1>{alert}"
        '<form method="post">'
        + field("holder", "Account holder", "name", filled.get("holder", ""), "text")
        + field("account_number", "Account number", "off", filled.get("account_number", ""))
        + '<button name="action" value="complete">Agree and submit</button>'
        '<button class="plain" name="action" value="later" formnovalidate>Save for later</button>'
        "</form>",
    )


def notice(title: str, text: str) -> str:
    """A page that only says something."""
    return page(title, f"<h1>{escape(title)}</h1><p>{escape(text)}</p>")
