"""What may be filled in on the page of limits: amounts of credits, empty for none."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from core import money
from keys import rules
from limits.setting import Use
from orgs.models import Membership

_AMOUNT = {"inputmode": "decimal", "autocomplete": "off"}


def _amount(label: Any, help_text: Any = "") -> forms.DecimalField:
    widget = forms.TextInput(attrs=_AMOUNT)
    return forms.DecimalField(label=label, help_text=help_text, required=False, widget=widget)


class LimitsForm(forms.Form):
    """One amount for the organization, one for each member, and the balance to be warned at."""

    low_balance = _amount(_("Warn below"), _("A mail goes out once when the balance falls below it. Empty: none."))

    def __init__(self, *args: Any, members: Iterable[Membership] = (), organization: bool = False, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.members = {f"member-{row.pk}": row for row in members}
        if organization:
            help_text = _("What all keys of the organization may spend together. Empty: no limit.")
            self.fields["workspace"] = _amount(_("Monthly limit"), help_text)
        for name, row in self.members.items():
            self.fields[name] = _amount(_("Monthly limit of %(name)s") % {"name": row.user.display_name})

    @classmethod
    def shown(
        cls, members: Iterable[Membership], uses: Mapping[UUID, Use], workspace_id: UUID, low: int | None, **kwargs: Any
    ) -> LimitsForm:
        """The form with what is set now."""
        members = list(members)
        initial = {f"member-{row.pk}": _text(uses[row.pk].limit) for row in members}
        initial |= {"workspace": _text(uses[workspace_id].limit), "low_balance": _text(low)}
        return cls(initial=initial, members=members, **kwargs)

    @property
    def was(self) -> list[tuple[str, str]]:
        """What each field showed when the page was made, to be sent along."""
        if not self.is_bound:
            return [(f"was-{name}", str(self.initial.get(name, ""))) for name in self.fields]
        return [(name, self.data[name]) for name in (f"was-{field}" for field in self.fields) if name in self.data]

    def is_touched(self, name: str) -> bool:
        """Whether the person changed this field. Somebody else may have changed the others since the page was made,
        and a member who came since stands in no form of before.
        """
        if name not in self.data:
            return False
        was = self.data.get(f"was-{name}")
        return was is None or was.strip() != self.data[name].strip()

    def clean(self) -> dict[str, Any]:
        """Amounts in microcredits."""
        cleaned: dict[str, Any] = {}
        for name in self.fields:
            if name in self.errors:
                continue
            amount: Decimal | None = self.cleaned_data.get(name)
            try:
                cleaned[name] = rules.spending_limit(amount)
            except ValueError as error:
                self.add_error(name, ValidationError(str(error)))
        return cleaned


def _text(amount_microcredits: int | None) -> str:
    return "" if amount_microcredits is None else f"{money.credits(amount_microcredits):f}"
