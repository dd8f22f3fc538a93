"""What people may fill in on the settings pages of single sign-on."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from core.stale_forms import StateForm
from sso.models import GIVEN_ROLES, OrgDomain, SsoConnection
from sso.saml import xml

_PLAIN = {"autocomplete": "off", "spellcheck": "false", "dir": "ltr"}


class _ProviderForm(StateForm):
    """The part that both kinds share. ``wanted`` is what `sso.connections.change` takes."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        required=False,
        help_text=gettext_lazy("For you, where there are several."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def wanted(self) -> dict[str, Any]:
        """The cleaned values, without secrets and documents that were left empty: those stay as they are."""
        keep = ("client_secret", "metadata_xml", "metadata_url", "issuer", "client_id")
        return {name: value for name, value in self.cleaned_data.items() if value or name not in keep}


class OidcForm(_ProviderForm):
    """What an OpenID provider gave us."""

    issuer = forms.CharField(
        label=gettext_lazy("Issuer"),
        max_length=1000,
        help_text=gettext_lazy(
            "What stands before /.well-known/openid-configuration, exactly as the provider writes it."
        ),
        widget=forms.URLInput(attrs=_PLAIN | {"placeholder": "https://login.example.com"}),
    )
    client_id = forms.CharField(label=gettext_lazy("Client ID"), max_length=255, widget=forms.TextInput(attrs=_PLAIN))
    client_secret = forms.CharField(
        label=gettext_lazy("Client secret"),
        max_length=1000,
        required=False,
        widget=forms.PasswordInput(attrs={"autocomplete": "off", "dir": "ltr"}),
    )
    provider_logout = forms.BooleanField(
        label=gettext_lazy("Signing out here signs out there"),
        required=False,
        help_text=gettext_lazy("Register the address after signing out, above, at the provider first."),
    )

    def __init__(self, *args: Any, connection: SsoConnection, **kwargs: Any) -> None:
        now: dict[str, Any] = {"name": connection.name, "issuer": connection.issuer, "client_id": connection.client_id}
        now["provider_logout"] = connection.provider_logout
        super().__init__(*args, now=now, initial=now, **kwargs)
        self.has_secret = bool(connection.client_secret_sealed)
        self.fields["client_secret"].required = not self.has_secret
        if self.has_secret:
            self.fields["client_secret"].help_text = _("One is stored. Leave this empty to keep it.")


class SamlForm(_ProviderForm):
    """What a SAML provider gave us: its metadata, pasted or by address."""

    metadata_xml = forms.CharField(
        label=gettext_lazy("Metadata (XML)"),
        required=False,
        max_length=xml.MOST_BYTES,
        widget=forms.Textarea(attrs=_PLAIN | {"rows": 6, "class": "font-mono text-xs"}),
    )
    metadata_url = forms.CharField(
        label=gettext_lazy("or its address"),
        required=False,
        max_length=1000,
        help_text=gettext_lazy("Then new certificates are taken over by themselves, once a day."),
        widget=forms.URLInput(attrs=_PLAIN | {"placeholder": "https://idp.example.com/metadata"}),
    )
    idp_initiated = forms.BooleanField(
        label=gettext_lazy("Sign-ins may start at the provider"),
        required=False,
        help_text=gettext_lazy("From its portal. People are asked once more before they are signed in."),
    )

    def __init__(self, *args: Any, connection: SsoConnection, **kwargs: Any) -> None:
        now = {
            "name": connection.name,
            "metadata_url": connection.idp_metadata_url,
            "idp_initiated": connection.idp_initiated,
        }
        super().__init__(*args, now=now, initial=now, **kwargs)
        self.has_metadata = bool(connection.idp_entity_id)
        if self.has_metadata:
            self.fields["metadata_xml"].help_text = _("What was read is shown above. Leave this empty to keep it.")

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not (data.get("metadata_xml") or data.get("metadata_url") or self.has_metadata or self.errors):
            raise ValidationError(_("Paste the metadata or enter their address."))
        return data


class RolesForm(StateForm):
    """What people become who come over a connection."""

    default_role = forms.ChoiceField(
        label=gettext_lazy("Role at the first sign-in"), choices=[(role.value, role.label) for role in GIVEN_ROLES]
    )
    role_claim = forms.CharField(
        label=gettext_lazy("Attribute with groups"),
        max_length=255,
        required=False,
        help_text=gettext_lazy("Such as groups. Empty: the provider has no say about roles."),
        widget=forms.TextInput(attrs=_PLAIN),
    )
    role_map = forms.CharField(
        label=gettext_lazy("Group = role"),
        required=False,
        help_text=gettext_lazy(
            "One a line, such as: engineering = developer. Applied at every sign-in; nobody becomes an owner this way."
        ),
        widget=forms.Textarea(attrs=_PLAIN | {"rows": 4, "class": "font-mono text-sm"}),
    )
    attribute_map = forms.CharField(
        label=gettext_lazy("Names of attributes"),
        required=False,
        help_text=gettext_lazy("Only where the provider's differ from the usual ones, such as: email = mail"),
        widget=forms.Textarea(attrs=_PLAIN | {"rows": 2, "class": "font-mono text-sm"}),
    )

    @classmethod
    def of(cls, connection: SsoConnection, data: Any = None) -> RolesForm:
        """The form as the connection is now, or as it was sent."""
        now = {name: getattr(connection, name) for name in cls.base_fields}
        written = {name: _written(now[name]) for name in ("role_map", "attribute_map")}
        return cls(data, now=now, initial=now | written)

    def clean_role_map(self) -> dict[str, str]:
        return _pairs(self.cleaned_data["role_map"])

    def clean_attribute_map(self) -> dict[str, str]:
        return _pairs(self.cleaned_data["attribute_map"])


class DomainForm(forms.Form):
    """A domain to claim."""

    domain = forms.CharField(
        label=gettext_lazy("E-mail domain"),
        max_length=300,
        widget=forms.TextInput(attrs=_PLAIN | {"placeholder": "example.com", "inputmode": "url"}),
    )


class RouteForm(StateForm):
    """Where the people of a domain sign in."""

    connection = forms.ModelChoiceField(
        label=gettext_lazy("Signs in with"),
        queryset=SsoConnection.objects.none(),
        required=False,
        empty_label=gettext_lazy("The only active connection"),
        to_field_name="provider_id",
    )

    @classmethod
    def of(cls, row: OrgDomain, data: Any = None) -> RouteForm:
        """The form for one domain, with the connections of its organization."""
        now = {"connection": row.connection}
        form = cls(data, now=now, initial=now, auto_id=f"route-{row.pk}-%s")
        form.fields["connection"].queryset = SsoConnection.objects.filter(workspace_id=row.workspace_id)  # type: ignore[attr-defined]
        return form


def _written(pairs: dict[str, str]) -> str:
    return "\n".join(f"{name} = {value}" for name, value in sorted(pairs.items()))


def _pairs(text: str) -> dict[str, str]:
    """``name = value`` lines; the last = counts, since names of groups may hold some. Raises ValidationError."""
    found: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, sign, value = line.rpartition("=")
        if not sign or not name.strip() or not value.strip():
            raise ValidationError(_("“%(line)s” is not of the form: name = value") % {"line": line[:80]})
        found[name.strip()] = value.strip()
    return found
