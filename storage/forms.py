"""The form of the page."""

from __future__ import annotations

from uuid import uuid4

from django import forms
from django.utils.translation import gettext_lazy as _

from storage.models import Kind


class UploadForm(forms.Form):
    """One file. ``form_token`` makes the same form sent twice one file."""

    file = forms.FileField(label=_("File"), allow_empty_file=False, max_length=1000)
    kind = forms.ChoiceField(
        label=_("Kind"),
        required=False,
        choices=[("", _("By its content")), *Kind.choices],
        help_text=_("Images, videos and audio must be what their bytes say."),
    )
    form_token = forms.UUIDField(widget=forms.HiddenInput)

    @classmethod
    def empty(cls) -> UploadForm:
        """A form that nobody has filled in yet."""
        return cls(initial={"form_token": uuid4()}, auto_id="upload-%s")
