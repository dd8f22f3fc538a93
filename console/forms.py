"""What people may fill in on the console's pages."""

from __future__ import annotations

import uuid
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from core import money
from core.stale_forms import StateForm
from keys import issuing, rules
from keys.models import ApiKey


class KeyForm(StateForm):
    """What a key may do."""

    name = forms.CharField(
        label=_("Name"),
        max_length=rules.NAME_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    spending_limit = forms.DecimalField(
        label=_("Monthly limit"),
        required=False,
        max_digits=15,
        decimal_places=money.CREDIT_DECIMALS,
        help_text=_("In credits, per calendar month (UTC). At the limit, calls are refused."),
        widget=forms.NumberInput(attrs={"min": "0", "step": "any", "inputmode": "decimal"}),
    )
    auto_disable = forms.BooleanField(
        label=_("Disable the key when it reaches its limit"),
        required=False,
        help_text=_("It then stays off, also next month, until somebody enables it."),
    )
    expires_on = forms.DateField(
        label=_("Expires"),
        required=False,
        help_text=_("The key works until the end of this day (UTC)."),
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )
    allowed_models = forms.CharField(
        label=_("Allowed models"),
        required=False,
        help_text=_("Model ids, one a line. Empty: every model."),
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "dir": "ltr", "class": "font-mono text-sm"}),
    )
    allowed_networks = forms.CharField(
        label=_("Allowed networks"),
        required=False,
        help_text=_("IP addresses or CIDR ranges, one a line. Empty: from everywhere."),
        widget=forms.Textarea(attrs={"rows": 2, "spellcheck": "false", "dir": "ltr", "class": "font-mono text-sm"}),
    )

    def __init__(self, *args: Any, key: ApiKey | None = None, **kwargs: Any) -> None:
        """``key``: the key that is edited. What stands unchanged in its form is right, even if it could not be new."""
        self.key = key
        if key is not None:
            kwargs |= {"initial": form_of(key), "now": _state_of(key)}
        super().__init__(*args, **kwargs)

    @classmethod
    def as_it_is_now(cls, key: ApiKey) -> KeyForm:
        """The form for somebody whose own rests on an older state of the key: nothing of that is written."""
        shown = {name: "" if value is None else value for name, value in form_of(key).items()}
        form = cls(shown, key=key, auto_id="edit-key-%s")
        form.add_error(
            None, _("Somebody changed this key while you had it open. Here it is as it is now: change it again.")
        )
        return form

    def clean_name(self) -> str:
        return _checked(rules.name, self.cleaned_data["name"])

    def clean_spending_limit(self) -> int | None:
        return _checked(rules.spending_limit, self.cleaned_data["spending_limit"])

    def clean_expires_on(self) -> datetime | None:
        day: date | None = self.cleaned_data["expires_on"]
        if day is None:
            return None
        if self.key is not None and day == last_day_of(self.key):
            return self.key.expires_at
        return _checked(rules.expiry, datetime.combine(day + timedelta(days=1), time.min, UTC))

    def clean_allowed_models(self) -> list[str]:
        names = _lines(self.cleaned_data["allowed_models"])
        if self.key is not None and names == self.key.allowed_models:
            return names
        return _checked(rules.models, names)

    def clean_allowed_networks(self) -> list[str]:
        return _checked(rules.networks, _lines(self.cleaned_data["allowed_networks"]))

    def fields_of_terms(self) -> dict[str, Any]:
        """The cleaned values by the names of `issuing.Terms`."""
        data = self.cleaned_data
        return {
            "name": data["name"],
            "spending_limit_microcredits": data["spending_limit"],
            "auto_disable": data["auto_disable"],
            "expires_at": data["expires_on"],
            "allowed_models": data["allowed_models"],
            "allowed_networks": data["allowed_networks"],
        }

    def terms(self) -> issuing.Terms:
        """The cleaned values for a new key."""
        return issuing.Terms(**self.fields_of_terms())


class NewKeyForm(KeyForm):
    """A key to be made. The token makes the form count once, however often it is sent."""

    form_token = forms.UUIDField(widget=forms.HiddenInput)

    @classmethod
    def empty(cls) -> NewKeyForm:
        """A fresh form with a token of its own."""
        return cls(initial={"form_token": uuid.uuid4()}, auto_id="new-key-%s")


def form_of(key: ApiKey) -> dict[str, Any]:
    """What `KeyForm` shows of an existing key."""
    limit = key.spending_limit_microcredits
    return {
        "name": key.name,
        "spending_limit": None if limit is None else f"{money.credits(limit):f}",
        "auto_disable": key.auto_disable,
        "expires_on": last_day_of(key),
        "allowed_models": "\n".join(key.allowed_models),
        "allowed_networks": "\n".join(key.allowed_networks),
    }


def _state_of(key: ApiKey) -> dict[str, Any]:
    """The same as the form's cleaned values have it."""
    return {
        "name": key.name,
        "spending_limit": key.spending_limit_microcredits,
        "auto_disable": key.auto_disable,
        "expires_on": key.expires_at,
        "allowed_models": key.allowed_models,
        "allowed_networks": key.allowed_networks,
    }


def last_day_of(key: ApiKey) -> date | None:
    """The last UTC day on which the key works at any time."""
    if key.expires_at is None:
        return None
    return (key.expires_at.astimezone(UTC) - timedelta(microseconds=1)).date()


class ProfileForm(forms.Form):
    """How a person is called."""

    name = forms.CharField(
        label=_("Name"), max_length=120, required=False, widget=forms.TextInput(attrs={"autocomplete": "name"})
    )


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.replace(",", "\n").split("\n") if line.strip()]


def _checked(rule: Any, value: Any) -> Any:
    try:
        return rule(value)
    except ValueError as error:
        raise ValidationError(str(error)) from None
