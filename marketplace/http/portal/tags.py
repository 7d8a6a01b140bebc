"""Template tags of the portal: money, times, badges, icons, fields.

Everything that comes from outside passes through ``format_html`` or autoescape; nothing here
marks a value safe.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django import template
from django.conf import settings
from django.forms import BoundField, CheckboxInput, CheckboxSelectMultiple
from django.templatetags.static import static
from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import get_language, ngettext
from django.utils.translation import gettext as _

from kernel.money import format_micro
from marketplace.catalog.price import FAIR_USE_TIB
from marketplace.http.portal import deeds, offer_words, words
from marketplace.http.portal.advice import Advice, advice
from marketplace.http.portal.charts import Chart
from marketplace.http.portal.entries import TRANSACTIONS
from marketplace.http.portal.language import here
from marketplace.rentals.reasons import sentence

register = template.Library()
MISSING = "–"
_SIGNS = {"USD": "$"}


@register.filter
def money(value: object, currency: str = "USD") -> str:
    """A decimal string or micro-units as text: ``"0.6500"`` -> ``$0.65``; two places at least."""
    if value is None or value == "":
        return MISSING
    text = format_micro(value, places=6) if isinstance(value, int) else str(value)
    try:
        amount = Decimal(text)
    except InvalidOperation:
        return MISSING
    plain = f"{abs(amount):,.6f}"
    whole, _dot, places = plain.partition(".")
    places = places.rstrip("0").ljust(2, "0")
    sign = "−" if amount < 0 else ""
    mark = _SIGNS.get(currency)
    return f"{sign}{mark}{whole}.{places}" if mark else f"{sign}{whole}.{places} {currency}"


@register.filter
def cents(value: object, currency: str = "USD") -> str:
    """Micro-units or a decimal string cut to whole cents: for balances at a glance."""
    if value is None or value == "":
        return MISSING
    amount = Decimal(value) / 1_000_000 if isinstance(value, int) else Decimal(str(value))
    return money(str(amount.quantize(Decimal("0.01"), rounding="ROUND_DOWN")), currency)


@register.filter
def spelled(value: str, name: str) -> str:
    """A value of ``name`` in words: ``{{ card.toolkit|spelled:"toolkit" }}``."""
    return offer_words.spelled(name, value) if value else ""


@register.filter
def minor(value: int | None, currency: str = "USD") -> str:
    """Minor units (cents), as Stripe and invoices count."""
    return MISSING if value is None else money(value * 10_000, currency)


def _moment(value: object) -> datetime | None:
    if isinstance(value, datetime):
        return value.astimezone(UTC)
    if isinstance(value, str) and value:
        try:
            return datetime.fromisoformat(value.replace("Z", "+00:00")).astimezone(UTC)
        except ValueError:
            return None
    return None


_SHAPES = {
    "full": "%-d %b %Y, %H:%M UTC",
    "exact": "%-d %b %Y, %H:%M:%S UTC",
    "short": "%-d %b, %H:%M UTC",
    "day": "%-d %b %Y",
    "minute": "%H:%M UTC",
    "clock": "%H:%M:%S UTC",
}
# A figure and the note below it: of what is near the time is the figure, of what is far the day.
_BY_DISTANCE = {"figure": ("minute", "day"), "note": ("day", "minute")}
_NEAR = timedelta(hours=24)
# Where another language writes them otherwise.
_SHAPES_IN = {
    "zh-hans": {
        "full": "%Y/%m/%d %H:%M UTC",
        "exact": "%Y/%m/%d %H:%M:%S UTC",
        "short": "%m/%d %H:%M UTC",
        "day": "%Y/%m/%d",
    }
}


@register.filter
def some(amount: str) -> bool:
    """Whether an amount as text is more or less than nothing."""
    return Decimal(amount) != 0


@register.simple_tag
def when(value: object, shape: str = "full") -> str | SafeString:
    """A ``<time>``: UTC as served and on hover, the reader's zone where a script runs."""
    moment = _moment(value)
    if moment is None:
        return MISSING
    if shape in _BY_DISTANCE:  # the host's clock will do: it chooses between two ways of saying it
        near, far = _BY_DISTANCE[shape]
        shape = near if abs(moment - timezone.now()) < _NEAR else far
    written = _SHAPES_IN.get(get_language() or "", {}).get(shape, _SHAPES[shape])
    return format_html(
        '<time datetime="{}" data-shape="{}" title="{}">{}</time>',
        moment.isoformat().replace("+00:00", "Z"),
        shape,
        moment.strftime("%Y-%m-%d %H:%M:%S UTC"),
        moment.strftime(written),
    )


_WRITTEN = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z)")


@register.filter
def timed(text: str) -> SafeString:
    """A text of ours with its moments, which it holds as the API writes them, as times."""
    parts = enumerate(_WRITTEN.split(str(text)))
    return format_html_join("", "{}", ((when(part) if n % 2 else part,) for n, part in parts))


@register.filter
def iso(value: object) -> str:
    """RFC 3339 for data attributes; empty when it is no time."""
    moment = _moment(value)
    return moment.isoformat().replace("+00:00", "Z") if moment else ""


@register.filter
def duration(value: object) -> str:
    """Whole seconds as ``2 h 05 min`` or ``41 s``."""
    try:
        seconds = int(str(value))
    except ValueError:
        return MISSING
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    if hours:
        return _("%(hours)d h %(minutes)02d min") % {"hours": hours, "minutes": minutes}
    if minutes:
        return _("%(minutes)d min %(seconds)02d s") % {"minutes": minutes, "seconds": left}
    return _("%(seconds)d s") % {"seconds": left}


@register.filter
def gib(value: object) -> str:
    """A size in GiB, without needless zeros."""
    if value in (None, ""):
        return MISSING
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        return MISSING
    if number >= 1024:
        return f"{(number / 1024).quantize(Decimal('0.1')).normalize():f} TiB"
    return f"{number.quantize(Decimal('0.1')).normalize():f} GiB"


@register.filter
def percent(value: object) -> str:
    """A share from 0 to 1, cut to hundredths of a percent: 0.9875 -> "98.75 %"."""
    if value in (None, ""):
        return MISSING
    hundredths = int(Decimal(str(value)) * 10_000)
    return f"{Decimal(hundredths) / 100:f} %"


@register.filter
def quote_line(part: dict[str, Any]) -> str:
    """A line of a quote in words; the API has a text of its own for each."""
    given = {"n": part["quantity"], "price": money(part["unit_per_hour"])}
    if part["kind"] == "gpu":
        return _("%(n)s GPU at %(price)s per GPU-hour") % given
    if part["kind"] == "disk":
        return _("%(n)s GiB local disk, included with the GPUs") % given
    if part["kind"] == "volume":
        text = _("%(n)s GiB new volume, running or stopped") if given["n"] else _("No new volume")
        return text % given
    if part["kind"] == "traffic":
        return _("Traffic, included up to a fair use of %(n)s TiB per month") % {"n": FAIR_USE_TIB}
    return str(part["text"])


@register.filter
def cards(count: object) -> str:
    """``1 GPU`` or ``8 GPUs``."""
    number = int(str(count or 0))
    return ngettext("%(n)d GPU", "%(n)d GPUs", number) % {"n": number}


@register.filter
def orelse(value: object, default: str = MISSING) -> object:
    """Not measured is a dash, never 0; yes and no are words."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return default if value in (None, "") else value


@register.filter
def translated(text: str) -> str:
    """A sentence of ours that is data, such as a rule of the preflight, in the reader's language.

    Never for what somebody wrote: a name that happens to be a message would be translated too.
    """
    return _(text) if text else ""


@register.simple_tag
def badge(kind: str, state: object) -> SafeString:
    """The badge of a state; the colour repeats what the word says."""
    word = words.word(kind, state)
    return format_html(
        '<span class="badge badge--{}{}" data-state="{}">{}</span>',
        word.tone,
        " badge--busy" if word.busy else "",
        str(state),
        word.label,
    )


@register.simple_tag
def state_label(kind: str, state: object) -> words.Text:
    """A state's word alone, inside a line of text."""
    return words.word(kind, state).label


register.simple_tag(offer_words.need)


@register.filter
def role(name: str) -> deeds.Text:
    """A member's role in words."""
    return deeds.ROLES[name].label


@register.simple_tag
def state_text(kind: str, state: object) -> words.Text:
    """The sentence that explains a state."""
    return words.word(kind, state).text


@register.filter
def tone(state: object, kind: str = "rental") -> str:
    return words.word(kind, state).tone


@register.filter
def past_tone(state: object) -> str:
    """The tone of a step that is over: only what went well or wrong keeps its colour."""
    past = words.word("rental", state).tone
    return past if past in {"good", "bad"} else "idle"


@register.filter
def fault(name: object) -> words.Text:
    """Whose fault, in words; empty when it is nobody's."""
    return words.FAULTS.get(str(name), "")


@register.filter
def observation(kind: object) -> words.Text:
    """A kind of positive observation in words."""
    return words.OBSERVATIONS.get(str(kind), str(kind))


@register.filter
def reason(code: str) -> str:
    """Why something of a rental is as it is, as its timeline says it."""
    return translated(sentence(code))


@register.simple_tag
def told(code: str, text: str) -> SafeString:
    """An event's text: in the reader's language where it says its reason and no more, else as it
    was written down, once for every reader."""
    return timed(reason(code) if text == sentence(code) else text)


@register.filter
def entry_kind(name: object) -> words.Text:
    """A ledger transaction's kind in words."""
    return TRANSACTIONS.get(str(name), str(name).replace("_", " ").capitalize())


@register.simple_tag
def icon(name: str) -> SafeString:
    """A symbol from the sprite; decoration only, so it is hidden from readers."""
    return format_html(
        '<svg class="icon" aria-hidden="true"><use href="{}#{}"/></svg>',
        static("img/icons.svg"),
        name,
    )


@register.inclusion_tag("components/field.html")
def field(bound: BoundField, *, mark_optional: bool = True) -> dict[str, Any]:
    """A form field with label, help and error tied to it for screen readers."""
    widget = bound.field.widget
    described = [
        f"{bound.auto_id}-{part}"
        for part, there in (("help", bound.help_text), ("error", bound.errors))
        if there
    ]
    attrs: dict[str, Any] = {}
    if described:
        attrs["aria-describedby"] = " ".join(described)
    if bound.errors:
        attrs["aria-invalid"] = "true"
    check = isinstance(widget, CheckboxInput)
    group = isinstance(widget, CheckboxSelectMultiple)
    if not check:
        attrs["class"] = " ".join(filter(None, ["input", widget.attrs.get("class", "")]))
    return {
        "bound": bound,
        "control": bound.as_widget(attrs=attrs),
        "check": check,
        "group": group,
        "optional": mark_optional and not check and not group and not bound.field.required,
    }


@register.inclusion_tag("components/chart.html")
def chart(shown: Chart) -> dict[str, Any]:
    """A chart with the table that says the same; its page includes components/chart_head.html."""
    return {"chart": shown}


@register.simple_tag(takes_context=True)
def current(context: template.Context, prefix: str) -> SafeString | str:
    """``aria-current`` for the navigation entry that the page belongs to."""
    path = context["request"].path
    here = path == prefix or (prefix != "/" and path.startswith(prefix))
    if prefix == "/":
        here = path == "/" or path.startswith("/offers")
    return format_html('aria-current="{}"', "page") if here else ""


@register.inclusion_tag("components/languages.html", takes_context=True)
def languages(context: template.Context) -> dict[str, Any]:
    """The switch of languages; it comes back to this page."""
    return {
        "languages": settings.LANGUAGES,
        "chosen": get_language(),
        "here": here(context["request"]),
        "csrf_token": context.get("csrf_token"),
    }


@register.simple_tag
def advise(refusal: Any) -> Advice:
    """Title and next step of a refusal."""
    return advice(refusal)


_LEVELS = {"success": ("good", "check"), "warning": ("wait", "alert"), "error": ("bad", "alert")}


@register.filter
def message_tone(level: str) -> str:
    """Django's message level as a tone."""
    return _LEVELS.get(level, ("info", "info"))[0]


@register.filter
def message_icon(level: str) -> str:
    return _LEVELS.get(level, ("info", "info"))[1]
