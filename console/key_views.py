"""``/manage-api-keys``: one list, and small dialogs that are whole pages where there is no JavaScript.

Under htmx a form that is wrong comes back alone into its dialog; one that worked brings the list (`#keys`), empties
the dialog's place and says so in a toast.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.contrib import messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts import reauth
from console import key_rows, snippets
from console.forms import KeyForm, NewKeyForm
from core import errors, toasts
from events import audit
from keys import issuing, leaving, lookup, widening
from keys.models import ApiKey
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission


@require_GET
@never_cache
@requires(Permission.KEYS_READ)
def keys(request: MemberRequest) -> HttpResponse:
    """The workspace's keys, what each spent this month, and how to use one."""
    return render(request, "keys/keys.html", _page(request))


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.KEYS_WRITE)
def new_key(request: MemberRequest) -> HttpResponse:
    """The form for a new key; and the one answer that shows its secret."""
    if request.method == "GET":
        return _dialog(request, "new", form=NewKeyForm.empty())
    form = NewKeyForm(request.POST, auto_id="new-key-%s")
    if not form.is_valid():
        return _dialog(request, "new", form=form, status=422)
    if asked := _ask_again(request, reverse("keys_new")):
        return asked
    try:
        issued = issuing.create(
            request.access.workspace,
            form.terms(),
            actor=audit.actor_of(request),
            created_by=request.user,
            form_token=form.cleaned_data["form_token"],
        )
    except errors.Conflict as error:
        if error.code == "already_made":
            return _already_made(request)
        form.add_error(None, error.message)
        return _dialog(request, "new", form=form, status=409)
    return _with_secret(request, issued)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.KEYS_WRITE)
def one_key(request: MemberRequest, key_id: UUID) -> HttpResponse:
    """What a key may do, to be changed."""
    key = lookup.api_key(request.access, key_id)
    if request.method == "GET":
        return _dialog(request, "edit", form=KeyForm(key=key, auto_id="edit-key-%s"), key=key)
    with transaction.atomic():
        key = issuing.locked(key)
        form = KeyForm(request.POST, key=key, auto_id="edit-key-%s")
        if form.is_outdated():
            return _dialog(request, "edit", form=KeyForm.as_it_is_now(key), key=key, status=409)
        if not form.is_valid():
            return _dialog(request, "edit", form=form, key=key, status=422)
        fields = form.fields_of_terms()
        if widening.widens(key, fields) and (asked := _ask_again(request, reverse("keys_one", args=[key.pk]))):
            return asked
        issuing.change(key, actor=audit.actor_of(request), **fields)
    return _done(request, _("“%(name)s” is changed.") % {"name": form.cleaned_data["name"]})


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.KEYS_WRITE)
def set_state(request: MemberRequest, key_id: UUID) -> HttpResponse:
    """Enable a key, or ask and then disable it."""
    key = lookup.api_key(request.access, key_id)
    if request.method == "GET":
        return _dialog(request, "disable", key=key)
    enabled = request.POST.get("enabled") == "1"
    if enabled and (asked := _ask_again(request, reverse("keys"))):
        return asked
    if enabled and leaving.is_orphan(key):  # it would stay refused: whoever enables it answers for it from now on
        leaving.take_over(key, request.user, actor=audit.actor_of(request))
    issuing.change(key, actor=audit.actor_of(request), enabled=enabled)
    text = _("“%(name)s” works again.") if enabled else _("“%(name)s” is disabled.")
    return _done(request, text % {"name": key.name})


@require_POST
@never_cache
@requires(Permission.KEYS_WRITE)
def take_over(request: MemberRequest, key_id: UUID) -> HttpResponse:
    """Answer from now on for a key whose maker left."""
    key = lookup.api_key(request.access, key_id)
    if asked := _ask_again(request, reverse("keys")):
        return asked
    try:
        leaving.take_over(key, request.user, actor=audit.actor_of(request))
    except errors.Conflict as error:
        messages.warning(request, error.message)
        return HttpResponseRedirect(reverse("keys"))
    return _done(request, _("“%(name)s” is yours now.") % {"name": key.name})


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.KEYS_WRITE)
def delete_key(request: MemberRequest, key_id: UUID) -> HttpResponse:
    """Ask, then delete a key."""
    key = lookup.api_key(request.access, key_id)
    if request.method == "GET":
        return _dialog(request, "delete", key=key)
    issuing.delete(key, actor=audit.actor_of(request))
    return _done(request, _("“%(name)s” is deleted.") % {"name": key.name})


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _page(request: MemberRequest) -> dict[str, Any]:
    found, orphans = lookup.of_workspace(request.access), list(leaving.orphans(request.access.workspace))
    return {
        "rows": key_rows.rows_of(found, orphans),
        "orphans": orphans,
        "can_write": Permission.KEYS_WRITE in request.access.permissions,
        "snippets": snippets.snippets(),
        "form": NewKeyForm.empty(),
        "fragment": True,
    }


def _is_fragment(request: HttpRequest) -> bool:
    return bool(request.headers.get("HX-Request"))


def _ask_again(request: HttpRequest, page: str) -> HttpResponse | None:
    """What a session that is old is told before a key gains power, or None where nothing is to be asked.

    A form of a whole page goes on by itself once the password came; htmx, which would swap the password's page into
    the dialog, is sent there and then to ``page``. Raises ReauthenticationRequired for the former.
    """
    if _is_fragment(request) and reauth.is_old(request):
        address = f"{reverse('account_reauthenticate')}?{urlencode({'next': page})}"
        return HttpResponse(status=403, headers={"HX-Redirect": address})
    reauth.ask_old_session(request)
    return None


def _dialog(
    request: MemberRequest, act: str, *, form: forms.Form | None = None, key: ApiKey | None = None, status: int = 200
) -> HttpResponse:
    """One of the small forms: its dialog under htmx, the form alone when it comes back with errors, else a page."""
    context = {"form": form, "key": key, "fragment": _is_fragment(request)}
    if not _is_fragment(request):
        return render(request, f"keys/{act}.html", context, status=status)
    part = "form" if request.method == "POST" else "dialog"
    return render(request, f"keys/_{act}_{part}.html", context)  # always 200: htmx swaps nothing in from a 4xx


def _done(request: MemberRequest, text: str) -> HttpResponse:
    """The list as it is now, and what was done."""
    if not _is_fragment(request):
        messages.success(request, text)
        return HttpResponseRedirect(reverse("keys"))
    return _list(request, toast=text)


def _with_secret(request: MemberRequest, issued: issuing.Issued) -> HttpResponse:
    """The only answer that ever holds the secret: no cache may keep it, and the back button must not bring it again."""
    if _is_fragment(request):
        response = _list(request, issued=issued)
    else:
        response = render(request, "keys/keys.html", {**_page(request), "issued": issued})
    response["Cache-Control"] = "no-store"
    return response


def _already_made(request: MemberRequest) -> HttpResponse:
    """The same form came twice. The first answer had the secret, and nobody has it now."""
    text = _("This key was already made. If you did not copy it, delete it and make a new one.")
    if _is_fragment(request):
        return _list(request, toast=text, tone="warning")
    messages.warning(request, text)
    return HttpResponseRedirect(reverse("keys"))


def _list(
    request: MemberRequest, *, issued: issuing.Issued | None = None, toast: str = "", tone: str = "success"
) -> HttpResponse:
    response = render(request, "keys/_answer.html", {**_page(request), "issued": issued})
    response["HX-Retarget"] = "#keys"
    response["HX-Reswap"] = "outerHTML"
    if toast:
        toasts.say(response, toast, tone=tone)
    return response
