"""The field for a code, and the operator's form for a new voucher."""

from __future__ import annotations

from decimal import Decimal
from typing import Any
from uuid import uuid4

from django import forms
from django.utils.translation import gettext_lazy as _
from unfold.widgets import (
    UnfoldAdminDecimalFieldWidget,
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldAdminTextInputWidget,
)

from core import money
from vouchers import codes, issuing


class RedeemForm(forms.Form):
    """One code, however it is typed."""

    code = forms.CharField(
        label=_("Voucher code"),
        max_length=codes.MOST_TYPED,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "characters", "spellcheck": "false"}),
        error_messages={"required": _("Enter the code of your voucher.")},
    )
    use_required_attribute = False


class IssueForm(forms.Form):
    """What an operator says of a new voucher. ``token`` makes a form sent twice one voucher."""

    amount = forms.DecimalField(
        label=_("Credits for each redemption"),
        min_value=Decimal("0.000001"),
        max_value=Decimal(issuing.MOST_MICROCREDITS // money.MICROCREDITS_PER_CREDIT),
        decimal_places=money.CREDIT_DECIMALS,
        widget=UnfoldAdminDecimalFieldWidget(),
        help_text=_("100 credits are 1 US dollar."),
    )
    redemption_limit = forms.IntegerField(
        label=_("Redemptions"),
        min_value=1,
        max_value=issuing.MOST_REDEMPTIONS,
        initial=1,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=_("How many workspaces may redeem the code, each once."),
    )
    expires_at = forms.SplitDateTimeField(
        label=_("Code valid until (UTC)"), required=False, widget=UnfoldAdminSplitDateTimeWidget()
    )
    credits_valid_days = forms.IntegerField(
        label=_("Credits last, days"),
        min_value=1,
        max_value=issuing.MOST_DAYS,
        required=False,
        widget=UnfoldAdminIntegerFieldWidget(),
        help_text=_("Counted from the redemption. Empty: they don't expire."),
    )
    note = forms.CharField(
        label=_("Note"), max_length=200, required=False, widget=UnfoldAdminTextInputWidget(),
        help_text=_("For operators; customers don't see it."),
    )  # fmt: skip
    token = forms.UUIDField(widget=forms.HiddenInput)

    @classmethod
    def empty(cls) -> IssueForm:
        """A form for one new voucher."""
        return cls(initial={"token": uuid4(), "redemption_limit": 1})

    def terms(self) -> issuing.Terms:
        """The terms of a valid form."""
        given: dict[str, Any] = self.cleaned_data
        return issuing.Terms(
            amount_microcredits=money.parse_credits(given["amount"]),
            redemption_limit=given["redemption_limit"],
            expires_at=given["expires_at"],
            credits_valid_days=given["credits_valid_days"],
            note=given["note"],
        )
