"""Events, states and failures in words for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from webhooks.models import Delivery
from webhooks.rules import TEST_EVENT

#: Each event in words, in groups, in the order of `events.outbox.EVENTS`.
EVENT_GROUPS: Final[Mapping[str | Promise, Mapping[str, str | Promise]]] = {
    _("Jobs"): {
        "job.succeeded": _("A job has its result"),
        "job.failed": _("A job failed"),
        "job.cancelled": _("A job was cancelled"),
        "job.expired": _("A job ran out of time"),
    },
    _("Spending"): {
        "limit.reached_80": _("80 % of a monthly limit is used"),
        "limit.reached_100": _("A monthly limit is reached"),
        "balance.low": _("The balance fell below your warning"),
        "key.disabled": _("An API key was disabled"),
    },
    _("Payments"): {
        "topup.completed": _("A top-up arrived"),
        "refund.completed": _("A refund was made"),
    },
    _("Organization"): {
        "member.joined": _("Somebody joined"),
        "member.left": _("Somebody left or was removed"),
        "member.role_changed": _("Somebody's role changed"),
        "sso.connection_changed": _("Single sign-on was changed"),
    },
    _("Deployments"): {
        "deployment.ready": _("A deployment is ready"),
        "deployment.failed": _("A deployment failed"),
    },
}
EVENT_TEXTS: Final[Mapping[str, str | Promise]] = {
    name: text for group in EVENT_GROUPS.values() for name, text in group.items()
} | {TEST_EVENT: _("A test")}

#: Tone and icon of each state of a delivery.
STATE_LOOKS: Final[Mapping[str, tuple[str, str]]] = {
    Delivery.State.WAITING: ("warning", "clock"),
    Delivery.State.DELIVERED: ("success", "circle-check"),
    Delivery.State.FAILED: ("error", "circle-x"),
    Delivery.State.CANCELLED: ("neutral", "ban"),
}
