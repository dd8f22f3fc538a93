"""Forms that show a state to be changed, and write nothing of it where somebody else has changed it meanwhile.

Who saves asks that of the row as it stands once it is locked, in the transaction that writes it: two who save in the
same instant are heard one after the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any

from django import forms
from django.contrib import messages
from django.db.models import Model
from django.http import HttpRequest
from django.utils.translation import gettext as _


class Outdated(Exception):
    """The locked row is not any more what the sent form had shown."""


class StateForm(forms.Form):
    """``now`` is the state as it stands: the values that ``cleaned_data`` would have for it.

    A template sends ``seen`` along in a hidden field of that name. A form without one is taken as it is, and so is one
    that makes something new, without a state.
    """

    def __init__(self, *args: Any, now: Mapping[str, Any] = MappingProxyType({}), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.now = dict(now)

    @property
    def seen(self) -> str:
        """Names the state that the form was made of."""
        told = repr(sorted((name, _plain(value)) for name, value in self.now.items()))
        return hashlib.sha256(told.encode()).hexdigest()[:16]

    def is_outdated(self) -> bool:
        """Whether the state is not any more what the sent form had shown. One that asks for what is there already (a
        second click) is not.
        """
        if self.data.get("seen", self.seen) == self.seen:
            return False
        return not self.is_valid() or any(
            _plain(self.cleaned_data[name]) != _plain(value) for name, value in self.now.items()
        )

    def is_outdated_by(self, fresh: StateForm) -> bool:
        """The same by the state in ``fresh``, a form of the locked row: where cleaning took too long to hold it."""
        self.now = fresh.now
        return self.is_outdated()


def refuse(request: HttpRequest) -> None:
    """Say on the next page why nothing of a form was written."""
    messages.warning(
        request,
        _("Somebody changed this while you had it open. Nothing was saved: here it is as it is now, change it again."),
    )


def _plain(value: Any) -> str:
    """A value as it compares: a row by its id, a number however it is written, a text whatever parts its words."""
    if isinstance(value, Model):
        return str(value.pk)
    if isinstance(value, dict):
        return repr(sorted(value.items()))
    return f"{value.normalize():f}" if isinstance(value, Decimal) else " ".join(str(value).split())
