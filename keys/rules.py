"""What a key's fields may hold. Each rule takes what came in and gives what is stored, or raises ValueError with one
sentence for the person who typed it; forms and the API share them."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from catalog.models import Alias, Model
from core import clock, errors, money

T = TypeVar("T")

NAME_LENGTH: Final = 80
MOST_MODELS: Final = 200
MOST_NETWORKS: Final = 50
#: Keys that one workspace may have at a time: far above any real need, so that a loop can't fill the table.
MOST_KEYS: Final = 500

#: `core.money` speaks to programmers; these are its complaints for people.
_LIMIT_FAULTS = {
    "must be a number of credits": gettext_lazy("Give a number of credits."),
    "is out of range": gettext_lazy("That is more than a limit can be."),
    "may have at most six decimals": gettext_lazy("A limit has at most six decimals."),
}


def checked(param: str, rule: Callable[[Any], T], value: Any) -> T:
    """``rule(value)``. Raises InvalidRequest that names ``param`` where the rule refuses."""
    try:
        return rule(value)
    except ValueError as error:
        raise errors.InvalidRequest(str(error), param=param) from None


def name(text: str) -> str:
    """The name without spaces around it: one line, not empty, of printable characters."""
    text = text.strip()
    if not text:
        raise ValueError(_("Give the key a name."))
    if len(text) > NAME_LENGTH:
        raise ValueError(_("A name has at most %(most)d characters.") % {"most": NAME_LENGTH})
    if not text.isprintable():
        raise ValueError(_("A name is one line of printable characters."))
    return text


def spending_limit(credits: object) -> int | None:
    """Microcredits a month out of a number of credits; None = no limit."""
    if credits is None:
        return None
    try:
        limit_microcredits = money.parse_credits(credits)
    except ValueError as error:
        raise ValueError(str(_LIMIT_FAULTS.get(str(error), error))) from None
    if limit_microcredits <= 0:
        raise ValueError(_("A limit is above zero. To stop a key, disable it."))
    return limit_microcredits


def expiry(moment: datetime | None) -> datetime | None:
    """A moment still to come; one without a time zone is taken as UTC. None = never."""
    if moment is None:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    if moment <= clock.now():
        raise ValueError(_("The expiry must lie in the future."))
    return moment.astimezone(UTC)


def models(names: Iterable[str]) -> list[str]:
    """Model ids in order, without repeats; an alias counts as its model. Empty = every model."""
    wanted = list(dict.fromkeys(text.strip() for text in names if text.strip()))
    if len(wanted) > MOST_MODELS:
        raise ValueError(_("Name at most %(most)d models.") % {"most": MOST_MODELS})
    known = {slug: slug for slug in Model.objects.filter(slug__in=wanted).values_list("slug", flat=True)}
    known.update(Alias.objects.filter(name__in=wanted).values_list("name", "model__slug"))
    for text in wanted:
        if text not in known:
            raise ValueError(_("There is no model “%(model)s”.") % {"model": text[:120]})
    return sorted({known[text] for text in wanted})


def networks(texts: Iterable[str]) -> list[str]:
    """Networks in their shortest CIDR form, in order, without repeats. Empty = from everywhere."""
    found = dict.fromkeys(_network(text.strip()) for text in texts if text.strip())
    if len(found) > MOST_NETWORKS:
        raise ValueError(_("Name at most %(most)d networks.") % {"most": MOST_NETWORKS})
    return list(found)


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text, strict=False))
    except ValueError:
        raise ValueError(_("“%(text)s” is no IP address or network.") % {"text": text[:60]}) from None
