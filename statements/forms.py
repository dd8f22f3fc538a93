"""The form of the billing profile; its rules are those of `statements.profiles`."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from statements.models import BillingProfile


class ProfileForm(forms.ModelForm):  # type: ignore[type-arg]
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
