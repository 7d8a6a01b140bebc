"""An invoice as PDF: the same rows give the same bytes, so a copy proves itself.

Nothing of the moment of printing is in it, and nothing depends on fonts or libraries of the
machine. Names are drawn in Helvetica, those it cannot write in a font that every reader brings for
Chinese, Japanese, Korean, Greek and Cyrillic.
"""

from __future__ import annotations

import io
from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from uuid import UUID
from xml.sax.saxutils import escape

from django.conf import settings

from billing.contracts import InvoiceState
from billing.contracts.documents import InvoiceDocument
from billing.facade import documents as billing
from kernel.ids import public
from kernel.money import format_micro, from_minor
from kernel.text import clean
from marketplace.catalog.taxes import percent, reason_text
from marketplace.models import Organization, Provider

_WIDE = "STSong-Light"
_STATES = {
    InvoiceState.DRAFT: "Draft: not issued yet, nothing is owed",
    InvoiceState.OPEN: "To be paid",
    InvoiceState.PAID: "Paid",
    InvoiceState.VOID: "Void: cancelled, nothing is owed",
    InvoiceState.UNCOLLECTIBLE: "Unpaid",
}
_RULED = [("LINEBELOW", (0, 0), (-1, -1), 0.25, "#999999"), ("VALIGN", (0, 0), (-1, -1), "TOP")]
_MARGIN = 57  # points, 20 mm; the columns of a table add up to the 482 that are left of A4


@dataclass(frozen=True)
class _Block:
    """A table of texts; with ``headed`` its first row, else its first column, is bold."""

    rows: list[list[str]]
    widths: tuple[int, ...]
    headed: bool = False


def invoice_pdf(organization: Organization, invoice_id: UUID) -> bytes:
    """The document of one of the organization's invoices; NotFound."""
    found = billing.invoice_document(org_ref=organization.id, invoice_id=invoice_id)
    return _draw(_title(found), _blocks(organization, found))


def _title(found: InvoiceDocument) -> str:
    return f"Invoice {found.number}" if found.number else "Draft invoice"


def _blocks(organization: Organization, found: InvoiceDocument) -> list[_Block]:
    """Who and when, what, how the total comes about, who sells."""
    lines = [["What", "GPU- or GiB-hours", "Exactly", found.currency], *_lines(found)]
    sellers = [["Sold by", "As", "Exactly"], *_sellers(found)]
    return [
        _Block(_facts(organization, found), (110, 372)),
        _Block(lines, (255, 75, 80, 72), headed=True),
        _Block(_sums(found), (330, 152)),
        _Block(sellers, (110, 292, 80), headed=True),
    ]


def _facts(organization: Organization, found: InvoiceDocument) -> list[list[str]]:
    seller = [settings.GPUYARD_SELLER_NAME, *settings.GPUYARD_SELLER_ADDRESS.split(";")]
    if settings.GPUYARD_SELLER_TAX_ID:
        seller.append(f"Tax id {settings.GPUYARD_SELLER_TAX_ID}")
    buyer = [found.buyer, found.buyer_email, organization.public_id]
    buyer += [f"Tax id {one.type} {one.value}" for one in found.buyer_tax_ids]
    paid = f" on {found.paid_at:%Y-%m-%d}" if found.paid_at else ""
    return [
        ["Issued by", "\n".join(part.strip() for part in seller if part.strip())],
        ["For", "\n".join(buyer)],
        ["Document", public("invoice", found.id)],
        ["Issued", f"{found.issued_at:%Y-%m-%d}" if found.issued_at else "not yet"],
        ["Period", f"{found.period_from:%Y-%m-%d %H:%M} to {found.period_to:%Y-%m-%d %H:%M} UTC"],
        ["Tax point", _tax_point(found)],
        ["State", _STATES[found.state] + paid],
    ]


def _lines(found: InvoiceDocument) -> list[list[str]]:
    return [
        [line.text, line.quantity, _exact(line.amount_micro), _cents(line.amount_minor)]
        for line in found.lines
    ]


def _sums(found: InvoiceDocument) -> list[list[str]]:
    used = sum(line.amount_micro for line in found.lines)
    return [
        ["Used in the period", _exact(used)],
        ["Part of a cent carried from the invoice before", _exact(found.carried_in_micro)],
        ["Part of a cent carried to the next invoice", _exact(-found.carried_micro)],
        *_taxes(found),
        ["Total", f"{_cents(found.total_minor)} {found.currency}"],
    ]


def _tax_point(found: InvoiceDocument) -> str:
    if found.tax_reason:
        return "with each use in the period"
    return f"{found.period_to:%Y-%m-%d}, the end of the period"


def _taxes(found: InvoiceDocument) -> list[list[str]]:
    """The tax by rate; where none is charged, why."""
    rates: dict[int, list[int]] = defaultdict(lambda: [0, 0])
    for line in found.lines:
        rates[line.tax_ppm][0] += line.amount_micro
        rates[line.tax_ppm][1] += line.tax_micro
    rows = [
        [f"Tax, {percent(ppm)} % of {_exact(net)}", _exact(tax)]
        for ppm, (net, tax) in sorted(rates.items())
        if ppm
    ]
    if rows:
        return rows
    why = f": {reason_text(found.tax_reason)}" if found.tax_reason else ""
    return [["Tax", f"none charged{why}"]]


def _sellers(found: InvoiceDocument) -> list[list[str]]:
    """Principal or agent: whose supply each part of the invoice is."""
    sums: dict[UUID, int] = defaultdict(int)
    for line in found.lines:
        for share in line.sellers:
            sums[share.provider_ref] += share.amount_micro
    providers = Provider.objects.select_related("organization").in_bulk(sums)
    roles: dict[tuple[str, str], int] = defaultdict(int)
    for ref, amount in sums.items():
        roles[_role(providers.get(ref))] += amount
    return [[name, role, _exact(amount)] for (name, role), amount in sorted(roles.items())]


def _role(provider: Provider | None) -> tuple[str, str]:
    us = settings.GPUYARD_SELLER_NAME
    if provider is None or settings.GPUYARD_ROLES[provider.ownership] == "principal":
        return us, f"{us} is the principal: it sells the compute itself"
    name = provider.organization.name
    return name, f"the seller of the compute is {name}; {us} acts as its agent"


def _exact(micro: int) -> str:
    return format_micro(micro, places=6)


def _cents(minor: int) -> str:
    return format_micro(from_minor(minor), places=2)


def _draw(title: str, blocks: list[_Block]) -> bytes:
    # Only whoever asks for a document pays for the library in memory.
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.cidfonts import UnicodeCIDFont
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table

    if _WIDE not in pdfmetrics.getRegisteredFontNames():
        pdfmetrics.registerFont(UnicodeCIDFont(_WIDE))
    text = ParagraphStyle("text", fontName="Helvetica", fontSize=9, leading=12)
    bold = ParagraphStyle("bold", text, fontName="Helvetica-Bold")
    head = ParagraphStyle("head", bold, fontSize=16, leading=24)

    def cell(block: _Block, row: int, column: int, value: str) -> Any:
        strong = row == 0 if block.headed else column == 0
        return Paragraph(_mark(value), bold if strong else text)

    parts: list[Any] = [Paragraph(_mark(title), head)]
    for block in blocks:
        cells = [
            [cell(block, row, column, value) for column, value in enumerate(values)]
            for row, values in enumerate(block.rows)
        ]
        parts.append(Spacer(0, 14))
        parts.append(Table(cells, block.widths, repeatRows=int(block.headed), style=_RULED))
    out = io.BytesIO()
    paper = SimpleDocTemplate(
        out,
        pagesize=A4,
        invariant=1,  # no time stamp and no random id
        pageCompression=0,  # nor what another version of zlib would write
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        title=title,
        author=settings.GPUYARD_SELLER_NAME,
    )
    foot = _foot(title)
    paper.build(parts, onFirstPage=foot, onLaterPages=foot)
    return out.getvalue()


def _foot(title: str) -> Any:
    def draw(canvas: Any, paper: Any) -> None:
        canvas.setFont("Helvetica", 8)
        canvas.drawString(_MARGIN, 30, f"{title}, page {paper.page}")

    return draw


def _mark(value: str) -> str:
    """Text as it is, never markup; what Helvetica cannot write in the other font."""
    safe = "<br/>".join(escape(line) for line in clean(value, lines=True).split("\n"))
    try:
        value.encode("cp1252")
    except UnicodeEncodeError:
        return f'<font name="{_WIDE}">{safe}</font>'
    return safe
