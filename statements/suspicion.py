"""Workspaces that behave unlike themselves, by rules that fit on a page.

Each rule compares a workspace with its own past or with a plain threshold; none of them stops anybody. They read the
rollup, the keys and the wallets, never the log.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Count, Q, Sum
from django.utils.functional import Promise
from django.utils.translation import gettext as _t
from django.utils.translation import gettext_lazy as _

from billing.models import Wallet
from core import clock, money
from core.templatetags.amounts import count_text, credits_text
from keys.models import ApiKey
from orgs.models import Workspace
from usage.models import Rollup

#: Days that the two days looked at are compared with.
PAST_DAYS: Final = 14
RECENT_DAYS: Final = 2
SPIKE_FACTOR: Final = 5
SPIKE_LEAST_MICROCREDITS: Final = 500 * money.MICROCREDITS_PER_CREDIT
REFUSALS: Final = (401, 402, 429)
REFUSALS_LEAST: Final = 100
REFUSALS_PERCENT: Final = 30
KEYS_IN_A_DAY: Final = 10
YOUNG_DAYS: Final = 3
YOUNG_LEAST_MICROCREDITS: Final = 5_000 * money.MICROCREDITS_PER_CREDIT
MOST_ROWS: Final = 100


@dataclass(frozen=True, slots=True)
class Rule:
    name: str
    title: Promise
    #: The rule itself, so that nobody has to guess what the page means.
    meaning: Promise


RULES: Final = (
    Rule(
        "spike",
        _("Spending far above its own past"),
        _("Yesterday and today together cost at least 500 credits and 5 times what two days cost on average in the 14 "
          "days before."),
    ),
    Rule(
        "refusals",
        _("Many refused calls"),
        _("At least 100 calls of yesterday and today were answered with 401, 402 or 429, and these are 30 % or more."),
    ),
    Rule("keys", _("Many new keys"), _("10 keys or more were made within the last 24 hours, deleted ones included.")),
    Rule(
        "young",
        _("New and already spending"),
        _("The workspace is younger than 3 days and has spent 5,000 credits or more."),
    ),
    Rule(
        "debt",
        _("Below zero"),
        _("The balance is negative: a refund, a dispute, or a call that cost more than it held."),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Suspect:
    """One workspace under one rule; ``evidence`` is the figures in words."""

    workspace: Workspace
    evidence: str


def suspects(today: date | None = None) -> dict[str, list[Suspect]]:
    """By the name of each rule, the workspaces it points at, the worst first, at most MOST_ROWS."""
    day = today or clock.now().date()
    found = {
        "spike": _spikes(day),
        "refusals": _refusals(day),
        "keys": _new_keys(),
        "young": _young(),
        "debt": _debts(),
    }
    return {rule.name: _named(found[rule.name][:MOST_ROWS]) for rule in RULES}


_Found = list[tuple[UUID, str]]


def _spikes(today: date) -> _Found:
    recent_from = today - timedelta(days=RECENT_DAYS - 1)
    past_from = recent_from - timedelta(days=PAST_DAYS)
    rows = (
        Rollup.objects.filter(day__gte=past_from, day__lte=today)
        .values("workspace_id")
        .annotate(
            recent=Sum("charged_microcredits", filter=Q(day__gte=recent_from), default=0),
            past=Sum("charged_microcredits", filter=Q(day__lt=recent_from), default=0),
        )
        .filter(recent__gte=SPIKE_LEAST_MICROCREDITS)
        .order_by("-recent")
    )
    usual: Any = [(row["workspace_id"], row["recent"], row["past"] * RECENT_DAYS // PAST_DAYS) for row in rows]
    return [
        (workspace, _t("%(recent)s credits; usually %(usual)s") % _texts(recent=recent, usual=average))
        for workspace, recent, average in usual
        if recent >= SPIKE_FACTOR * average
    ]


def _refusals(today: date) -> _Found:
    rows = (
        Rollup.objects.filter(day__gte=today - timedelta(days=RECENT_DAYS - 1), day__lte=today)
        .values("workspace_id")
        .annotate(
            refused=Sum("requests", filter=Q(status__in=REFUSALS), default=0),
            asked=Sum("requests", default=0),
        )
        .filter(refused__gte=REFUSALS_LEAST)
        .order_by("-refused")
    )
    return [
        (
            row["workspace_id"],
            _t("%(refused)s of %(asked)s calls")
            % {"refused": count_text(row["refused"]), "asked": count_text(row["asked"])},
        )
        for row in rows
        if row["refused"] * 100 >= REFUSALS_PERCENT * row["asked"]
    ]


def _new_keys() -> _Found:
    rows = (
        ApiKey.objects.filter(created_at__gte=clock.now() - timedelta(days=1), internal=False)
        .values("workspace_id")
        .annotate(made=Count("id"))
        .filter(made__gte=KEYS_IN_A_DAY)
        .order_by("-made")
    )
    return [(row["workspace_id"], _t("%(count)d keys") % {"count": row["made"]}) for row in rows]


def _young() -> _Found:
    born = Workspace.objects.filter(created_at__gte=clock.now() - timedelta(days=YOUNG_DAYS)).values("pk")
    rows = (
        Rollup.objects.filter(workspace_id__in=born)
        .values("workspace_id")
        .annotate(spent=Sum("charged_microcredits"))
        .filter(spent__gte=YOUNG_LEAST_MICROCREDITS)
        .order_by("-spent")
    )
    return [(row["workspace_id"], _t("%(spent)s credits") % _texts(spent=row["spent"])) for row in rows]


def _debts() -> _Found:
    rows = Wallet.objects.filter(balance_microcredits__lt=0).order_by("balance_microcredits")
    found = rows.values_list("pk", "balance_microcredits")[:MOST_ROWS]
    return [(pk, _t("%(balance)s credits") % _texts(balance=balance)) for pk, balance in found]


def _texts(**amounts: int) -> dict[str, str]:
    return {name: credits_text(amount) for name, amount in amounts.items()}


def _named(found: _Found) -> list[Suspect]:
    workspaces = Workspace.objects.in_bulk([pk for pk, _ in found])
    return [Suspect(workspaces[pk], evidence) for pk, evidence in found if pk in workspaces]
