"""``/gpu-recommend/{slug}/try``: a hosted model called by hand, with the workspace's own wallet. The job's page shows
what comes of it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django import forms
from django.core import signing
from django.core.exceptions import ValidationError
from django.http import Http404, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _now
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from catalog.entries import ModelEntry
from core import errors, ids
from infra import engine, hosted, rates, runs
from infra.templatetags.infra import example_input
from keys import internal, lookup
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from upstreams import loose_json, runpod

KEY_LASTS: Final = timedelta(hours=1)
_SALT: Final = "gpu-try"


class TryForm(forms.Form):
    """The member ``input`` of a call, and the id of the job that this form makes, however often it is sent."""

    input = forms.CharField(
        label=_("Input"),
        max_length=runpod.MOST_RUN_BYTES,
        help_text=_("A JSON object. It goes to the worker as it is."),
        widget=forms.Textarea(
            attrs={"rows": 8, "class": "font-mono text-sm", "spellcheck": "false", "autocomplete": "off", "dir": "ltr"}
        ),
    )
    token = forms.CharField(widget=forms.HiddenInput)

    def clean_input(self) -> dict[str, Any]:
        try:
            value = loose_json.decode(self.cleaned_data["input"].encode())
            return runs.input_of({"input": value})
        except ValueError:
            raise ValidationError(_now("This is not valid JSON.")) from None
        except errors.ProductError as error:
            raise ValidationError(error.message) from None


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.KEYS_WRITE)
def try_model(request: MemberRequest, slug: str) -> HttpResponse:
    """The form with the model's example; sent, it is a job.

    Whoever may make keys may spend by hand what a key could.
    """
    entry = hosted.find(slug)
    if entry is None:
        raise Http404
    if request.method == "GET":
        fresh = {"input": example_input(entry), "token": _token(request)}
        return _page(request, entry, TryForm(initial=fresh))
    form = TryForm(request.POST)
    if not form.is_valid():
        return _page(request, entry, form, status=422)
    job_id = _job_id(request, form.cleaned_data["token"])
    if job_id is None:
        form.add_error(None, _now("This form is too old. Load the page again."))
        return _page(request, entry, form, status=422)
    try:
        _submit(request, slug, form.cleaned_data["input"], job_id)
    except errors.ProductError as error:
        form.add_error("input" if error.param == "input" else None, error.message)
        return _page(request, entry, form, status=error.status)
    return HttpResponseRedirect(reverse("job", args=[job_id]))


def _submit(request: MemberRequest, slug: str, value: dict[str, Any], job_id: UUID) -> None:
    """Reserve and queue the job, unless this form did before."""
    workspace = request.access.workspace
    if runs.exists(workspace.pk, job_id):
        return
    issued = internal.mint(request, workspace, request.user, name=_now("GPU models page"), lasts=KEY_LASTS)
    runs.submit_hosted(lookup.facts_of(issued.key), slug, {"input": value}, job_id=job_id, claim=None)


def _page(request: MemberRequest, entry: ModelEntry, form: TryForm, status: int = 200) -> HttpResponse:
    assert entry.price is not None and entry.media.gpu is not None
    price, by_second = rates.flat(entry.price.rates), entry.price.rates.unit == "second"
    context = {
        "model": entry,
        "form": form,
        "by_second": by_second,
        "most": price * entry.media.gpu.max_seconds if by_second else price,
        "is_local": engine.chosen() == engine.LOCAL,
    }
    return render(request, "infra/try.html", context, status=status)


def _token(request: MemberRequest) -> str:
    """The id of the job to be, for this person and this workspace alone."""
    return signing.dumps([str(ids.uuid7()), str(request.access.workspace.pk), str(request.user.pk)], salt=_SALT)


def _job_id(request: MemberRequest, token: str) -> UUID | None:
    try:
        job_id, workspace, user = signing.loads(token, salt=_SALT, max_age=timedelta(days=1))
    except (signing.BadSignature, ValueError):
        return None
    mine = (workspace, user) == (str(request.access.workspace.pk), str(request.user.pk))
    return UUID(job_id) if mine else None
