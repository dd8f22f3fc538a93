"""The admin's forms: what a JSON field may hold is checked by the code that will read it, and keys only go in."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminPasswordWidget

from catalog import codec, endpoints, media, source
from catalog.models import Alias, Model, Price, Provider
from upstreams.wire import TargetOptions, split_base_url


def _words(value: object, known: tuple[str, ...]) -> list[str]:
    """A JSON list of known words. Raises ValidationError."""
    if not isinstance(value, list) or any(word not in known for word in value):
        raise ValidationError(_("Must be a list of these words: %(words)s.") % {"words": ", ".join(known)})
    return value


class ProviderForm(forms.ModelForm):  # type: ignore[type-arg]
    """The key is written, never shown: an empty field leaves it as it is."""

    new_secret = forms.CharField(
        label=_("New key"),
        required=False,
        strip=True,
        widget=UnfoldAdminPasswordWidget(render_value=False, attrs={"autocomplete": "new-password"}),
        help_text=_("Stored encrypted and not shown again. Empty: the key stays as it is."),
    )
    remove_secret = forms.BooleanField(label=_("Remove the stored key"), required=False)

    class Meta:
        model = Provider
        fields = (
            "slug", "name", "adapter", "base_url", "kinds", "secret_env", "enabled", "price_factor_basis_points",
            "options",
        )  # fmt: skip

    def clean_kinds(self) -> list[str]:
        return _words(self.cleaned_data["kinds"], endpoints.KINDS)

    def clean_base_url(self) -> str:
        base_url = str(self.cleaned_data["base_url"]).rstrip("/")
        if self.cleaned_data.get("slug") != source.SANDBOX:
            try:
                split_base_url(base_url)
            except ValueError as error:
                raise ValidationError(str(error)) from None
        return base_url

    def clean_options(self) -> dict[str, Any]:
        options = self.cleaned_data["options"] or {}
        try:
            TargetOptions.from_mapping(options)
        except (ValueError, AttributeError, TypeError) as error:
            raise ValidationError(str(error)) from None
        return dict(options)

    def save(self, commit: bool = True) -> Provider:
        if self.cleaned_data.get("new_secret"):
            self.instance.set_secret(self.cleaned_data["new_secret"])
        elif self.cleaned_data.get("remove_secret"):
            self.instance.set_secret("")
        saved: Provider = super().save(commit)
        return saved


class ModelForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Model
        fields = (
            "slug", "name", "vendor", "family", "endpoints", "context_tokens", "max_output_tokens",
            "default_max_output_tokens", "capabilities", "intents", "media", "price_factor_basis_points", "enabled",
        )  # fmt: skip

    def clean_slug(self) -> str:
        slug = str(self.cleaned_data["slug"])
        if Alias.objects.filter(name=slug).exists():
            raise ValidationError(_("An alias has this name."))
        return slug

    def clean_endpoints(self) -> list[str]:
        return _words(self.cleaned_data["endpoints"], endpoints.KINDS)

    def clean_capabilities(self) -> list[str]:
        return _words(self.cleaned_data["capabilities"] or [], endpoints.CAPABILITIES)

    def clean_intents(self) -> list[str]:
        intents = self.cleaned_data["intents"] or []
        if not isinstance(intents, list) or not all(isinstance(word, str) for word in intents):
            raise ValidationError(_("Must be a list of words."))
        return intents

    def clean_media(self) -> dict[str, Any]:
        rules = self.cleaned_data["media"] or {}
        try:
            media.parse(rules)
        except (ValueError, TypeError, AttributeError) as error:
            raise ValidationError(str(error)) from None
        return dict(rules)


class AliasForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Alias
        fields = ("name", "model")

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if Model.objects.filter(slug=name).exists():
            raise ValidationError(_("A model has this id."))
        return name


class PriceForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new version, in microcredits: 1 USD is 100,000,000 of them."""

    class Meta:
        model = Price
        fields = (
            "model", "effective_since", "input_microcredits_per_mtok", "cached_input_microcredits_per_mtok",
            "cache_write_5m_microcredits_per_mtok", "cache_write_1h_microcredits_per_mtok",
            "output_microcredits_per_mtok", "audio_input_microcredits_per_mtok", "audio_output_microcredits_per_mtok",
            "long_context", "service_tiers", "server_tools", "unit", "unit_prices", "list_prices", "guess", "note",
        )  # fmt: skip

    def clean(self) -> dict[str, Any]:
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        cleaned["long_context"] = cleaned.get("long_context") or []
        for name in ("service_tiers", "server_tools", "unit_prices", "list_prices"):
            cleaned[name] = cleaned.get(name) or {}
        try:
            rates = Price(**{name: value for name, value in cleaned.items() if name != "model"}).rates
            codec.from_json(codec.to_json(rates))
            codec.from_json(cleaned["list_prices"])
        except (ValueError, TypeError, AttributeError) as error:
            raise ValidationError(str(error)) from None
        if not rates.is_set:
            raise ValidationError(_("Set input and output, or a unit with its prices."))
        return cleaned
