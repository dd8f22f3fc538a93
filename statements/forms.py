"""The form of the billing profile; its rules are those of `statements.profiles`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from core.stale_forms import StateForm
from statements.models import BillingProfile


class ProfileForm(StateForm, forms.ModelForm):  # type: ignore[type-arg]
    """Who statements are made out to."""

    class Meta:
        model = BillingProfile
        fields = ("legal_name", "email", "address", "tax_id")
        widgets = {
            "legal_name": forms.TextInput(attrs={"autocomplete": "organization"}),
            "email": forms.EmailInput(attrs={"autocomplete": "email"}),
            "address": forms.Textarea(attrs={"rows": 4, "autocomplete": "street-address"}),
            "tax_id": forms.TextInput(attrs={"autocomplete": "off"}),
        }
        help_texts = {
            "legal_name": _("Empty: the workspace's name."),
            "email": _("Each month's statement is mailed there once the month is over. It stands on statements, too."),
            "tax_id": _("Such as a VAT number."),
        }

    use_required_attribute = False

    @classmethod
    def of(cls, profile: BillingProfile, data: Any = None) -> ProfileForm:
        """The form as the profile is now, or as it was sent."""
        now = {name: getattr(profile, name) for name in cls.base_fields}
        return cls(data, now=now, initial=now)
