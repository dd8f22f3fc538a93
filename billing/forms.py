"""The form that starts a top-up."""

from __future__ import annotations

import uuid
from decimal import Decimal
from typing import Any, Final

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from billing import topups
from core import errors

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
