"""A statement as PDF. Its font is DejaVu, which knows most scripts, where the machine has it, else the library's."""

from __future__ import annotations

import functools
import io
from collections.abc import Sequence
from typing import Any, Final
from xml.sax.saxutils import escape

from django.conf import settings
from django.utils.translation import gettext as _
from reportlab.lib import colors
from reportlab.lib.enums import TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFError, TTFont
from reportlab.platypus import Flowable, LongTable, Paragraph, SimpleDocTemplate, Spacer, TableStyle

from core.templatetags.amounts import count_text, credits_exact_text, usd_text
from orgs.models import Workspace
from statements import wording
from statements.composing import Share, Statement
from statements.models import BillingProfile

_FONTS: Final = (("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"), ("Vera.ttf", "VeraBd.ttf"))
_PLAIN: Final = "Statement"
_BOLD: Final = "Statement-Bold"
_MARGIN: Final = 18 * mm
_WIDTH: Final = A4[0] - 2 * _MARGIN
_QUIET: Final = colors.HexColor("#5b6474")
_LINE: Final = colors.HexColor("#d5dae3")


def render(statement: Statement, workspace: Workspace, profile: BillingProfile) -> bytes:
    """The whole file."""
    _register_fonts()
    buffer = io.BytesIO()
    title = _("Statement %(number)s") % {"number": statement.number}
    document = SimpleDocTemplate(
        buffer,
        pagesize=A4,
        leftMargin=_MARGIN,
        rightMargin=_MARGIN,
        topMargin=_MARGIN,
        bottomMargin=_MARGIN,
        title=title,
        author=settings.SITE_NAME,
        invariant=1,  # the same statement is the same file
    )
    document.build(_story(statement, workspace, profile, title), onFirstPage=_foot, onLaterPages=_foot)
    return buffer.getvalue()


def _story(made: Statement, workspace: Workspace, profile: BillingProfile, title: str) -> list[Flowable]:
    kind = _("for %(first)s to %(last)s, UTC") % {"first": made.month.first_day, "last": made.month.last_day}
    if not made.is_closed:
        kind += " · " + _("so far: %(moment)s UTC") % {"moment": f"{made.made_at:%Y-%m-%d %H:%M}"}
    story: list[Flowable] = [
        _text(title, size=16, bold=True),
        _text(kind, quiet=True),
        Spacer(0, 6 * mm),
        _parties(workspace, profile),
        Spacer(0, 6 * mm),
        _table(_balance_rows(made), (0.7, 0.3), strong=(0, -1)),
    ]
    story.append(_text(_("100 credits are 1 US dollar. Credits are prepaid: nothing is due by this."), quiet=True))
    for heading, words, head, rows, widths in _parts(made):
        if rows:
            story += [Spacer(0, 5 * mm), _text(heading, size=11, bold=True), Spacer(0, 1.5 * mm)]
            story.append(_table([head, *rows], widths, words=words, head=True))
    return story


def _balance_rows(made: Statement) -> list[list[str]]:
    rows = [[_("Opening balance"), _amount(made.opening_microcredits)]]
    rows += [[heading, _amount(flow.amount_microcredits)] for heading, flow in wording.headed(made.flows)]
    return [*rows, [_("Closing balance"), _amount(made.closing_microcredits)]]


def _parts(made: Statement) -> list[tuple[str, int, list[str], list[list[str]], tuple[float, ...]]]:
    """The tables below the balance: heading, columns of words, head, rows, widths."""
    movements = [
        [f"{movement.at:%Y-%m-%d %H:%M}", words, _amount(movement.amount_microcredits)]
        for words, movement in wording.described(made.movements)
    ]
    models = [
        [
            cost.model,
            count_text(cost.totals.requests),
            count_text(cost.totals.input_tokens),
            count_text(cost.totals.output_tokens),
            credits_exact_text(cost.totals.charged_microcredits),
        ]
        for cost in made.models
    ]
    requests, credits = _("Requests"), _("Credits")
    return [
        (_("Payments and gifts"), 2, [_("Time (UTC)"), _("What"), credits], movements, (0.25, 0.45, 0.3)),
        (
            _("Usage by model"),
            1,
            [_("Model"), requests, _("Input tokens"), _("Output tokens"), credits],
            models,
            (0.36, 0.13, 0.17, 0.17, 0.17),
        ),
        (_("Usage by API key"), 1, [_("Key"), requests, credits], _share_rows(made.keys), (0.6, 0.15, 0.25)),
        (_("Usage by member"), 1, [_("Member"), requests, credits], _share_rows(made.members), (0.6, 0.15, 0.25)),
    ]


def _share_rows(shares: Sequence[Share]) -> list[list[str]]:
    return [
        [share.name or _("not known"), count_text(share.requests), credits_exact_text(share.charged_microcredits)]
        for share in shares
    ]


def _amount(amount_microcredits: int) -> str:
    return f"{credits_exact_text(amount_microcredits)}  ({usd_text(amount_microcredits)})"


def _parties(workspace: Workspace, profile: BillingProfile) -> LongTable:
    issuer = settings.STATEMENT_ISSUER or [settings.SITE_NAME]
    customer = [profile.legal_name or workspace.name, *profile.address.split("\n")]
    customer += [_("Tax id: %(id)s") % {"id": profile.tax_id}] if profile.tax_id else []
    customer += [profile.email] if profile.email else []
    rows = [[_lines(_("From"), issuer), _lines(_("To"), [line for line in customer if line])]]
    return LongTable(rows, colWidths=[_WIDTH / 2] * 2, style=TableStyle([("VALIGN", (0, 0), (-1, -1), "TOP")]))


def _lines(heading: str, lines: Sequence[str]) -> list[Flowable]:
    return [_text(heading, quiet=True), *(_text(line) for line in lines)]


def _table(
    rows: Sequence[Sequence[str]],
    widths: Sequence[float],
    *,
    words: int = 1,
    head: bool = False,
    strong: Sequence[int] = (),
) -> LongTable:
    """The first ``words`` columns hold text, the others numbers; ``head`` repeats the first row on each page."""
    bold = {0} if head else {place % len(rows) for place in strong}
    cells = [
        [_text(text, bold=at in bold, right=place >= words) for place, text in enumerate(row)]
        for at, row in enumerate(rows)
    ]
    style: list[Any] = [
        ("LINEBELOW", (0, 0), (-1, -1), 0.4, _LINE),
        ("VALIGN", (0, 0), (-1, -1), "TOP"),
        ("TOPPADDING", (0, 0), (-1, -1), 2.5),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.5),
    ]
    columns = [_WIDTH * share for share in widths]
    return LongTable(cells, colWidths=columns, style=TableStyle(style), repeatRows=1 if head else 0)


def _text(text: str, *, size: float = 8.5, bold: bool = False, quiet: bool = False, right: bool = False) -> Paragraph:
    return Paragraph(escape(text), _style(size, bold, quiet, right))


@functools.cache
def _style(size: float, bold: bool, quiet: bool, right: bool) -> ParagraphStyle:
    return ParagraphStyle(
        "text",
        fontName=_BOLD if bold else _PLAIN,
        fontSize=size,
        leading=size * 1.35,
        textColor=_QUIET if quiet else colors.black,
        alignment=TA_RIGHT if right else 0,
        splitLongWords=1,
    )


def _foot(canvas: Any, document: Any) -> None:
    canvas.saveState()
    canvas.setFont(_PLAIN, 7.5)
    canvas.setFillColor(_QUIET)
    canvas.drawString(_MARGIN, 10 * mm, document.title)
    canvas.drawRightString(A4[0] - _MARGIN, 10 * mm, _("Page %(number)d") % {"number": document.page})
    canvas.restoreState()


@functools.cache
def _register_fonts() -> None:
    for plain, bold in _FONTS:
        try:
            fonts = TTFont(_PLAIN, plain), TTFont(_BOLD, bold)
        except TTFError:
            continue
        for font in fonts:
            pdfmetrics.registerFont(font)
        return
    raise FileNotFoundError("none of the statement's fonts is here")
