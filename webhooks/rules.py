"""What an endpoint may be. Each rule takes what somebody sent, and returns it in its final form or says why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from django.utils.translation import gettext as _

from core import errors, outbound
from core.egress import EgressError, EgressTimedOut, Purpose, check_url
from events import outbox

#: Endpoints in one workspace at most.
MOST_ENDPOINTS: Final = 20
DESCRIPTION_LENGTH: Final = 120
URL_LENGTH: Final = 2_048
#: The event that a member sends to try an endpoint. It can't be chosen: it goes where it was asked for.
TEST_EVENT: Final = "webhook.test"
_LOOK_UP_SECONDS: Final = 4.0


def url(text: str, *, param: str = "url") -> str:
    """An address that messages may be sent to: public HTTPS, or what the operator allows (EGRESS_ALLOW).

    Its name is looked up, which takes seconds at worst. One that is only slow to be looked up passes: whoever sends
    there looks again each time. Raises InvalidRequest that names ``param``.
    """
    text = text.strip()
    try:
        check_url(text, Purpose.WEBHOOK, allow=outbound.allowed(), seconds=_LOOK_UP_SECONDS)
    except EgressTimedOut:
        return text
    except EgressError as error:
        raise errors.InvalidRequest(str(error), param=param, code="url_not_allowed") from None
    return text


def events(names: Sequence[str]) -> list[str]:
    """The chosen events in their usual order, each once. Raises InvalidRequest."""
    chosen = set(names)
    for name in names:
        if name not in outbox.EVENTS:
            raise errors.InvalidRequest(_("There is no event “%(name)s”.") % {"name": name[:64]}, param="events")
    if not chosen:
        raise errors.InvalidRequest(_("Choose at least one event."), param="events")
    return [name for name in outbox.EVENTS if name in chosen]


def description(text: str) -> str:
    """A few words of the member's own. Raises InvalidRequest."""
    text = " ".join(text.split())
    if len(text) > DESCRIPTION_LENGTH or "\0" in text:
        message = _("At most %(most)d characters.") % {"most": DESCRIPTION_LENGTH}
        raise errors.InvalidRequest(message, param="description")
    return text
