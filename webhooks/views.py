"""``/settings/webhooks``: the workspace's endpoints, and what was sent to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import reauth
from core import clock, errors, stale_forms
from events import audit
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from webhooks import default_secret, deliveries, endpoints, reading, signing, snippets
from webhooks.forms import RotateForm, WebhookForm
from webhooks.log_views import log_context
from webhooks.models import Endpoint


# ── The list ─────────────────────────────────────────────────────────────────────────────────────────────────────────
@require_GET
@never_cache
@requires(Permission.WEBHOOKS_READ)
def webhooks(request: MemberRequest) -> HttpResponse:
    """All endpoints of the workspace, and how a receiver verifies a message."""
    context = {
        "rows": reading.of_workspace(request.access),
        "may_write": _may_write(request),
        "snippets": snippets.SNIPPETS,
    }
    return render(request, "webhooks/list.html", context)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def new(request: MemberRequest) -> HttpResponse:
    """The form for a new endpoint; and the one answer that shows its secret."""
    if request.method == "GET":
        return render(request, "webhooks/new.html", {"form": WebhookForm.empty()})
    reauth.ask_old_session(request)
    form = WebhookForm(request.POST)
    if form.is_valid():
        try:
            made = endpoints.create(
                request.access.workspace,
                form.terms(),
                actor=audit.actor_of(request),
                created_by=request.user,
                form_token=form.cleaned_data["form_token"],
            )
        except errors.Conflict as error:
            if error.code == "already_made":
                text = _("This webhook was already made. If you did not copy its secret, replace the secret.")
                messages.warning(request, text)
                return HttpResponseRedirect(reverse("webhooks"))
            form.add_error(None, error.message)
        else:
            return _with_secret(request, made.endpoint, made.secret, is_new=True)
    return render(request, "webhooks/new.html", {"form": form}, status=422)


# ── One endpoint ─────────────────────────────────────────────────────────────────────────────────────────────────────
@require_GET
@never_cache
@requires(Permission.WEBHOOKS_READ)
def one(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """An endpoint and the log of what was sent to it."""
    row = reading.endpoint(request.access, webhook_id)
    return render(request, "webhooks/one.html", _one(request, row))


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def edit(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """Change where it is and what it is told of."""
    row = reading.endpoint(request.access, webhook_id)
    if request.method == "GET":
        return render(request, "webhooks/edit.html", {"form": WebhookForm.of(row), "endpoint": row})
    reauth.ask_old_session(request)
    form = WebhookForm.of(row, request.POST)
    form.full_clean()  # looks a name up: the row is not held for that
    with transaction.atomic():
        if form.is_outdated_by(WebhookForm.of(endpoints.locked(row))):
            stale_forms.refuse(request)
            return HttpResponseRedirect(request.path)
        if form.is_valid():
            endpoints.change(row, actor=audit.actor_of(request), fields=form.columns())
            messages.success(request, _("Saved."))
            return _to(row)
    return render(request, "webhooks/edit.html", {"form": form, "endpoint": row}, status=422)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def state(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """Enable it, or ask and then disable it."""
    row = reading.endpoint(request.access, webhook_id)
    if request.method == "GET":
        return render(request, "webhooks/disable.html", {"endpoint": row})
    enabled = request.POST.get("enabled") == "1"
    endpoints.change(row, actor=audit.actor_of(request), enabled=enabled, fields={})
    messages.success(request, _("The webhook is enabled.") if enabled else _("The webhook is disabled."))
    return _to(row)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def rotate(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """Say what replacing the secret means, then do it and show the new one."""
    row = reading.endpoint(request.access, webhook_id)
    form = RotateForm(request.POST if request.method == "POST" else None, initial={"seen": signing.version(row)})
    if request.method == "POST":
        reauth.ask_old_session(request)
        if form.is_valid():
            try:
                made = endpoints.rotate(row, actor=audit.actor_of(request), **form.cleaned_data)
            except errors.Conflict as error:
                messages.warning(request, error.message)
                return _to(row)
            return _with_secret(request, made.endpoint, made.secret)
    return render(request, "webhooks/rotate.html", {"form": form, "endpoint": row}, status=422 if form.errors else 200)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def delete(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """Ask, then delete it with its log."""
    row = reading.endpoint(request.access, webhook_id)
    if request.method == "GET":
        return render(request, "webhooks/delete.html", {"endpoint": row})
    endpoints.delete(row, actor=audit.actor_of(request))
    messages.success(request, _("The webhook is deleted."))
    return HttpResponseRedirect(reverse("webhooks"))


@require_POST
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def send_test(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """Send a test event."""
    row = reading.endpoint(request.access, webhook_id)
    try:
        endpoints.send_test(row, actor=audit.actor_of(request))
    except errors.Conflict as error:
        messages.warning(request, error.message)
    else:
        messages.success(request, _("A test is on its way. The log shows what comes of it."))
    return _to(row)


@require_POST
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def recover(request: MemberRequest, webhook_id: UUID) -> HttpResponse:
    """Send everything again that did not arrive."""
    row = reading.endpoint(request.access, webhook_id)
    try:
        count = deliveries.recover(row, actor=audit.actor_of(request))
    except errors.Conflict as error:
        messages.warning(request, error.message)
    else:
        text = ngettext("%(count)d message is sent again.", "%(count)d messages are sent again.", count)
        messages.success(request, text % {"count": count})
    return _to(row)


# ── The workspace's secret ───────────────────────────────────────────────────────────────────────────────────────────
@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.WEBHOOKS_WRITE)
def secret(request: MemberRequest) -> HttpResponse:
    """What signs messages to addresses that calls bring with them: shown and replaced here."""
    row = default_secret.of(request.access.workspace.pk)
    form = RotateForm(request.POST if "seen" in request.POST else None, initial={"seen": signing.version(row)})
    context: dict[str, Any] = {"form": form, "rotating_until": _rotating_until(row)}
    if request.method == "POST":
        reauth.ask_old_session(request)
        context |= _shown_secret(request, form)
    response = render(request, "webhooks/secret.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _shown_secret(request: MemberRequest, form: RotateForm) -> dict[str, Any]:
    """The secret, or the new one where the form to replace it was sent, for the page."""
    workspace, actor = request.access.workspace, audit.actor_of(request)
    if not form.is_bound:
        return {"secret": default_secret.reveal(workspace, actor=actor)}
    if not form.is_valid():
        return {}
    try:
        text = default_secret.rotate(workspace, actor=actor, **form.cleaned_data)
    except errors.Conflict as error:
        messages.warning(request, error.message)
        return {}
    row = default_secret.of(workspace.pk)
    fresh = RotateForm(initial={"seen": signing.version(row)})
    return {"secret": text, "is_new": True, "form": fresh, "rotating_until": _rotating_until(row)}


# ── Parts ────────────────────────────────────────────────────────────────────────────────────────────────────────────
def _may_write(request: MemberRequest) -> bool:
    return Permission.WEBHOOKS_WRITE in request.access.permissions


def _rotating_until(owner: Any) -> Any:
    return owner.previous_until if signing.is_rotating(owner, clock.now()) else None


def _one(request: MemberRequest, row: Endpoint) -> dict[str, Any]:
    context = {
        "endpoint": row,
        "may_write": _may_write(request),
        "rotating_until": _rotating_until(row),
        "missed": deliveries.missed(row).count() if row.enabled else 0,
    }
    return context | log_context(request, row, reverse("webhook", args=[row.pk]))


def _with_secret(request: MemberRequest, row: Endpoint, text: str, *, is_new: bool = False) -> HttpResponse:
    """The only answer that ever holds the secret: no cache may keep it, and the back button must not bring it again."""
    context = {**_one(request, row), "secret": text, "is_new": is_new, "snippets": snippets.SNIPPETS}
    response = render(request, "webhooks/one.html", context)
    response["Cache-Control"] = "no-store"
    return response


def _to(row: Endpoint) -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("webhook", args=[row.pk]))
