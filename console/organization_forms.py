"""What people may fill in on the pages of an organization."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from core.stale_forms import StateForm
from orgs import invitations, organizations
from orgs.models import Membership, Workspace
from orgs.permissions import Role
from orgs.workspaces import NAME_LENGTH


class _NameForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=NAME_LENGTH,
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )

    def clean_name(self) -> str:
        try:
            return organizations.clean_name(self.cleaned_data["name"])
        except ValueError as error:
            raise ValidationError(str(error)) from None


class NewOrganizationForm(_NameForm):
    """An organization to be made. The token makes the form count once, however often it is sent."""

    form_token = forms.UUIDField(widget=forms.HiddenInput)

    @classmethod
    def empty(cls) -> NewOrganizationForm:
        """A fresh form with a token of its own."""
        return cls(initial={"form_token": uuid.uuid4()})


class OrganizationForm(StateForm, _NameForm):
    """What may be changed about an organization."""

    require_second_factor = forms.BooleanField(
        label=_("Members need a second factor"),
        required=False,
        help_text=_(
            "Whoever has neither an authenticator app nor a passkey sets one up before they see the organization. "
            "People who sign in through your own identity provider are left to its rules. Keys go on working."
        ),
    )

    @classmethod
    def of(cls, workspace: Workspace, data: Any = None) -> OrganizationForm:
        """The form as the organization is now, or as it was sent."""
        now = {"name": workspace.name, "require_second_factor": workspace.require_second_factor}
        return cls(data, now=now, initial=now)


class InviteForm(forms.Form):
    """Whom to invite, and as what."""

    email = forms.EmailField(
        label=_("E-mail address"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "off"})
    )
    role = forms.ChoiceField(
        label=_("Role"),
        choices=[(role.value, role.label) for role in invitations.ROLES],
        initial=Role.DEVELOPER.value,
    )


class RoleForm(StateForm):
    """What a member is."""

    role = forms.ChoiceField(label=_("Role"))

    def __init__(self, *args: Any, roles: Iterable[Role], **kwargs: Any) -> None:
        """``roles``: those that the asker may give."""
        super().__init__(*args, **kwargs)
        self.fields["role"].choices = [(role.value, role.label) for role in roles]  # type: ignore[attr-defined]


class _Member(forms.ModelChoiceField):
    def label_from_instance(self, obj: Membership) -> str:
        return f"{obj.user.display_name} ({obj.user.email})"


class RemoveForm(forms.Form):
    """Who takes over the keys of somebody who goes."""

    heir = _Member(
        label=_("Their keys go to"),
        queryset=Membership.objects.none(),
        required=False,
        empty_label=_("Nobody: disable them now"),
        help_text=_("Keys that nobody takes stay disabled until a member takes them over on the keys page."),
    )

    def __init__(self, *args: Any, heirs: Any, **kwargs: Any) -> None:
        """``heirs``: memberships that keys may pass to."""
        super().__init__(*args, **kwargs)
        self.fields["heir"].queryset = heirs  # type: ignore[attr-defined]


class TransferForm(forms.Form):
    """Who is to own the organization."""

    member = _Member(label=_("New owner"), queryset=Membership.objects.none(), empty_label=_("Choose a member"))

    def __init__(self, *args: Any, others: Any, **kwargs: Any) -> None:
        """``others``: the memberships of everybody else."""
        super().__init__(*args, **kwargs)
        self.fields["member"].queryset = others  # type: ignore[attr-defined]


class DeleteForm(forms.Form):
    """The organization's name, typed by hand."""

    name = forms.CharField(
        label=_("Type the organization's name"), widget=forms.TextInput(attrs={"autocomplete": "off"})
    )
