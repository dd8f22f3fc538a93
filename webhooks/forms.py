"""What people may fill in on the pages of webhooks."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from core import errors
from core.stale_forms import StateForm
from events import outbox
from webhooks import rules, wording
from webhooks.endpoints import Terms
from webhooks.models import Endpoint


class WebhookForm(StateForm):
    """An endpoint: where, for what, and the member's own words about it. The token makes one form one endpoint."""

    url = forms.CharField(
        label=_("URL"),
        max_length=rules.URL_LENGTH,
        widget=forms.URLInput(attrs={"dir": "ltr", "autocomplete": "off", "placeholder": "https://example.com/hook"}),
        help_text=_("A public https:// address of your server."),
    )
    description = forms.CharField(
        label=_("Description"),
        required=False,
        max_length=rules.DESCRIPTION_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    events = forms.MultipleChoiceField(
        label=_("Events"),
        choices=[(name, name) for name in outbox.EVENTS],
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": _("Choose at least one event.")},
    )
    form_token = forms.UUIDField(widget=forms.HiddenInput, required=False)

    @classmethod
    def empty(cls) -> WebhookForm:
        """A form for a new endpoint, with a token of its own."""
        return cls(initial={"form_token": uuid.uuid4()})

    @classmethod
    def of(cls, endpoint: Endpoint, data: Any = None) -> WebhookForm:
        """The form as the endpoint is now, or as it was sent."""
        now = {"url": endpoint.url, "description": endpoint.description, "events": endpoint.events}
        return cls(data, now=now, initial=now)

    def event_groups(self) -> list[tuple[Any, list[tuple[str, Any, bool]]]]:
        """The boxes to tick: (group, [(event, its words, whether it is ticked)])."""
        ticked = set(self["events"].value() or ())
        return [
            (group, [(name, text, name in ticked) for name, text in texts.items()])
            for group, texts in wording.EVENT_GROUPS.items()
        ]

    def clean_description(self) -> str:
        return str(_by_rule(rules.description, self.cleaned_data["description"]))

    def clean_events(self) -> list[str]:
        return list(_by_rule(rules.events, self.cleaned_data["events"]))

    def clean_url(self) -> str:
        return str(_by_rule(rules.url, self.cleaned_data["url"]))

    def terms(self) -> Terms:
        """What a valid form says."""
        return Terms(**self.columns())

    def columns(self) -> dict[str, Any]:
        """The same by the names of `Terms`."""
        return {name: self.cleaned_data[name] for name in ("url", "events", "description")}


class RotateForm(forms.Form):
    """What becomes of the secret before. ``seen`` makes a form sent twice one rotation."""

    end_previous = forms.BooleanField(
        label=_("End the old secret now"),
        required=False,
        help_text=_(
            "For a secret that others know. Without this, messages bear both signatures for 24 hours, so that your "
            "server can change over without missing one."
        ),
    )
    seen = forms.CharField(widget=forms.HiddenInput, max_length=64)


def _by_rule(rule: Callable[[Any], Any], value: Any) -> Any:
    try:
        return rule(value)
    except errors.InvalidRequest as error:
        raise ValidationError(error.message) from None
