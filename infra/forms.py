"""The three steps of a new deployment, and the form that changes one."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _

from core.errors import InvalidRequest
from core.stale_forms import StateForm
from core.templatetags.amounts import credits_exact_text
from infra import engine, rates, rules
from infra.deployments import Terms
from infra.models import Deployment

_CODE = {"spellcheck": "false", "autocomplete": "off", "autocapitalize": "none", "dir": "ltr"}


def _checked(rule: Callable[[Any], Any], value: Any) -> Any:
    """What a rule makes of a value; its refusal as the form's own. Raises ValidationError."""
    try:
        return rule(value)
    except InvalidRequest as error:
        raise ValidationError(error.message) from None


class ImageForm(forms.Form):
    """What runs, and under which name."""

    name = forms.CharField(label=_("Name"), max_length=rules.NAME_LENGTH)
    slug = forms.CharField(
        label=_("Slug"),
        max_length=63,
        help_text=_("Part of its address: /v1/gpu/run/your-slug. It stays as it is."),
        widget=forms.TextInput(attrs=_CODE),
    )
    docker_image = forms.CharField(
        label=_("Docker image"),
        max_length=300,
        help_text=_("A worker image with a handler, such as runpod/worker-comfyui or your own."),
        widget=forms.TextInput(attrs=_CODE),
    )
    volume_id = forms.CharField(
        label=_("Network volume"),
        max_length=64,
        required=False,
        help_text=_("Its id at the engine. It is mounted at /runpod-volume, for weights."),
        widget=forms.TextInput(attrs=_CODE),
    )

    def clean_name(self) -> str:
        return str(_checked(rules.name, self.cleaned_data["name"]))

    def clean_slug(self) -> str:
        return str(_checked(rules.slug, self.cleaned_data["slug"]))

    def clean_docker_image(self) -> str:
        return str(_checked(rules.docker_image, self.cleaned_data["docker_image"]))

    def clean_volume_id(self) -> str:
        return str(_checked(rules.volume_id, self.cleaned_data["volume_id"]))


class HardwareForm(forms.Form):
    """Where it runs, and how many of it."""

    gpu_types = forms.MultipleChoiceField(
        label=_("GPU types"),
        help_text=_("With several, whichever is free is taken, and a second costs what the dearest of them costs."),
        widget=forms.CheckboxSelectMultiple,
    )
    min_workers = forms.IntegerField(
        label=_("Workers kept warm"),
        min_value=0,
        max_value=rules.MOST_WORKERS,
        help_text=_("They answer at once and are paid for every second, with and without work. 0: none."),
    )
    max_workers = forms.IntegerField(label=_("Most workers"), min_value=1, max_value=rules.MOST_WORKERS)
    idle_timeout_seconds = forms.IntegerField(
        label=_("Idle timeout, seconds"),
        min_value=1,
        max_value=rules.MOST_IDLE_SECONDS,
        help_text=_("So long a worker waits for more work before it goes."),
    )
    max_seconds = forms.IntegerField(
        label=_("Longest run, seconds"),
        min_value=rules.LEAST_SECONDS,
        max_value=rules.MOST_SECONDS,
        help_text=_("A run reserves the price of so many seconds, and is stopped after them."),
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["gpu_types"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(row.gpu_type, _price_label(row)) for row in rates.table()]

    def clean_gpu_types(self) -> list[str]:
        return list(_checked(rules.gpu_types, self.cleaned_data["gpu_types"]))

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("min_workers", 0) > data.get("max_workers", rules.MOST_WORKERS):
            self.add_error("min_workers", _now("There can't be more workers kept warm than there are at most."))
        return data


class SettingsForm(forms.Form):
    """Where notices go, and what workers find in their environment."""

    webhook_url = forms.CharField(
        label=_("Webhook"),
        required=False,
        max_length=2048,
        help_text=_("Gets a signed notice when a run ends. https only."),
        widget=forms.URLInput(attrs=_CODE),
    )
    env = forms.CharField(
        label=_("Environment variables and secrets"),
        required=False,
        help_text=_("One NAME=value a line. Values are sealed and never shown again."),
        widget=forms.Textarea(attrs={**_CODE, "rows": 4, "class": "font-mono text-sm"}),
    )
    form_token = forms.UUIDField(widget=forms.HiddenInput)

    def clean_webhook_url(self) -> str:
        return str(_checked(rules.webhook_url, self.cleaned_data["webhook_url"]))

    def clean_env(self) -> dict[str, str]:
        return dict(_checked(rules.env, read_env(self.cleaned_data["env"])))


class EditForm(StateForm, HardwareForm):
    """What of a deployment may change: everything but its slug. Secrets are only added, replaced or removed."""

    name = ImageForm.base_fields["name"]
    docker_image = ImageForm.base_fields["docker_image"]
    volume_id = ImageForm.base_fields["volume_id"]
    webhook_url = SettingsForm.base_fields["webhook_url"]
    env = forms.CharField(
        label=_("Add or replace variables"),
        required=False,
        help_text=_("One NAME=value a line. Those that you leave out stay."),
        widget=forms.Textarea(attrs={**_CODE, "rows": 3, "class": "font-mono text-sm"}),
    )
    remove_env = forms.MultipleChoiceField(
        label=_("Remove variables"), required=False, widget=forms.CheckboxSelectMultiple
    )
    field_order = ("name", "docker_image", "volume_id", "gpu_types")

    clean_name = ImageForm.clean_name
    clean_docker_image = ImageForm.clean_docker_image
    clean_volume_id = ImageForm.clean_volume_id
    clean_webhook_url = SettingsForm.clean_webhook_url
    clean_env = SettingsForm.clean_env

    def __init__(self, data: Any = None, *, row: Deployment) -> None:
        names = ("name", "docker_image", "volume_id", "gpu_types", "min_workers", "max_workers", "idle_timeout_seconds",
                 "max_seconds", "webhook_url")  # fmt: skip
        now = {name: getattr(row, name) for name in names}
        super().__init__(data, now=now, initial=now)
        field = self.fields["remove_env"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = [(name, name) for name in row.env_names]
        if not row.env_names:
            del self.fields["remove_env"]

    def changes(self) -> dict[str, Any]:
        """What `deployments.change` takes."""
        found = dict(self.cleaned_data)
        removed = dict.fromkeys(found.pop("remove_env", []))
        return {**found, "env": {**removed, **found["env"]}}


STEPS: tuple[type[forms.Form], ...] = (ImageForm, HardwareForm, SettingsForm)


def fresh(step: int, like: Deployment | None = None) -> dict[str, Any]:
    """What a step begins with; like another deployment's, but for what is its own or secret."""
    usual: dict[str, Any] = {
        "docker_image": engine.SAMPLE_IMAGE if engine.chosen() == engine.LOCAL else "",
        "gpu_types": [],
        "min_workers": 0,
        "max_workers": 3,
        "idle_timeout_seconds": 5,
        "max_seconds": settings.GPU_MAX_SECONDS,
        "form_token": uuid.uuid4(),
    }
    if like is not None:
        names = ("docker_image", "volume_id", "gpu_types", "min_workers", "max_workers", "idle_timeout_seconds",
                 "max_seconds", "webhook_url")  # fmt: skip
        usual |= {name: getattr(like, name) for name in names}
    return {name: usual[name] for name in STEPS[step].base_fields if name in usual}


def terms(data: Mapping[str, Any]) -> Terms:
    """A deployment out of the cleaned data of all steps."""
    return Terms(**{name: value for name, value in data.items() if name != "form_token"})


def read_env(text: str) -> dict[str, str]:
    """Lines of NAME=value. Raises ValidationError that names the line, never its value."""
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        name, sign, value = line.partition("=")
        if not sign:
            raise ValidationError(_now("Line %(number)d has no “=”.") % {"number": number})
        found[name.strip()] = value
    return found


def _price_label(row: rates.GpuPrice) -> str:
    amount = {"gpu": row.gpu_type, "credits": credits_exact_text(row.work_microcredits)}
    return _now("%(gpu)s · %(credits)s credits a second") % amount
