"""The forms of billing: a top-up, and the rule of automatic ones."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from billing import topups
from billing.models import AutoTopUp
from core import errors, money
from core.stale_forms import StateForm

#: The amounts to choose from, in cents.
AMOUNTS_CENTS: Final = (500, 1_000, 2_500, 5_000, 10_000)
OTHER: Final = "other"


class TopUpForm(forms.Form):
    """An amount out of a few, or one's own. ``token`` makes a form sent twice one top-up."""

    amount = forms.ChoiceField(
        label=_("Amount"),
        choices=[*((str(cents), f"${cents // 100}") for cents in AMOUNTS_CENTS), (OTHER, _("Other"))],
        widget=forms.RadioSelect,
        error_messages={"required": _("Choose an amount."), "invalid_choice": _("Choose an amount.")},
    )
    other = forms.DecimalField(
        label=_("Your amount in US dollars"),
        decimal_places=2,
        max_digits=9,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "maxlength": "12"}),
        error_messages={
            "required": _("Enter an amount."),
            "invalid": _("Enter an amount like 25 or 12.50."),
            "max_decimal_places": _("Cents are the smallest unit: at most two decimals."),
        },
    )
    save_card = forms.BooleanField(label=_("Save this card for automatic top-ups"), required=False)
    token = forms.UUIDField(widget=forms.HiddenInput)
    use_required_attribute = False  # one's own amount is asked for only where none of the others is chosen

    @classmethod
    def empty(cls) -> TopUpForm:
        """A form for a new top-up, with the usual amount chosen."""
        preselected = settings.TOPUP_PRESELECTED_CENTS
        known = preselected in AMOUNTS_CENTS
        initial: dict[str, Any] = {"amount": str(preselected) if known else OTHER, "token": uuid.uuid4()}
        if not known:
            initial["other"] = Decimal(preselected) / 100
        return cls(initial=initial)

    def clean(self) -> dict[str, Any]:
        """Adds ``amount_cents``; complaints about one's own amount stand at its field."""
        values = super().clean() or {}
        choice = values.get("amount")
        if choice != OTHER:
            self.errors.pop("other", None)  # nothing, or a rest of something typed before another choice was made
        if choice == OTHER and "other" in values:
            self._take("other", values, int(values["other"] * 100))
        elif choice and choice != OTHER:
            self._take("amount", values, int(choice))
        return values

    def _take(self, field: str, values: dict[str, Any], cents: int) -> None:
        try:
            topups.check_amount(cents)
        except errors.InvalidRequest as error:
            self.add_error(field, error.message)
        else:
            values["amount_cents"] = cents


def _dollars(label: Any) -> forms.DecimalField:
    return forms.DecimalField(
        label=label,
        decimal_places=2,
        max_digits=9,
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off", "maxlength": "12"}),
        error_messages={
            "required": _("Enter an amount."),
            "invalid": _("Enter an amount like 25 or 12.50."),
            "max_decimal_places": _("Cents are the smallest unit: at most two decimals."),
        },
    )


class AutoTopUpForm(StateForm):
    """Below so many credits charge so many dollars, so many dollars a month at most."""

    enabled = forms.BooleanField(label=_("Top up automatically"), required=False)
    below = forms.IntegerField(
        label=_("When the balance falls below"),
        min_value=1,
        max_value=10_000_000,
        widget=forms.TextInput(attrs={"inputmode": "numeric", "autocomplete": "off", "maxlength": "12"}),
        error_messages={"required": _("Enter an amount."), "invalid": _("Enter whole credits, like 500.")},
    )
    amount = _dollars(_("Charge"))
    cap = _dollars(_("At most a month (UTC)"))
    use_required_attribute = False

    #: Fields by the names that the rule has for them.
    _FIELDS: Final = {
        "enabled": "enabled",
        "below_microcredits": "below",
        "amount_cents": "amount",
        "monthly_cap_cents": "cap",
    }

    @classmethod
    def of(cls, rule: AutoTopUp | None, data: Any = None) -> AutoTopUpForm:
        """The form as it stands, or as it was sent; sensible figures where there is no rule yet."""
        now: dict[str, Any] = {"enabled": False, "below": 500, "amount": Decimal(20), "cap": Decimal(100)}
        if rule is not None:
            now = {
                "enabled": rule.enabled,
                "below": rule.below_microcredits // money.MICROCREDITS_PER_CREDIT,
                "amount": _plain(rule.amount_cents),
                "cap": _plain(rule.monthly_cap_cents),
            }
        return cls(data, now=now, initial=now)

    def rule(self) -> dict[str, Any]:
        """What `auto.configure` wants; only after ``is_valid``."""
        values = self.cleaned_data
        return {
            "enabled": values["enabled"],
            "below_microcredits": values["below"] * money.MICROCREDITS_PER_CREDIT,
            "amount_cents": int(values["amount"] * 100),
            "monthly_cap_cents": int(values["cap"] * 100),
        }

    def complain(self, error: errors.InvalidRequest) -> None:
        """Put what the rule says to the field it is about."""
        self.add_error(self._FIELDS.get(error.param or ""), error.message)


def _plain(cents: int) -> Decimal:
    """Cents as dollars to edit: 20 and 12.50."""
    return Decimal(cents) / 100 if cents % 100 else Decimal(cents // 100)
