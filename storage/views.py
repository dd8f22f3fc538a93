"""``/storage``: the workspace's files, one form to add some, and a question before one goes.

Under htmx what changes comes back as the panel (`#files`) and a toast; without JavaScript each act is a whole page.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.conf import settings
from django.contrib import messages
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from core import errors, ids, toasts
from events import audit
from orgs.access import MemberRequest, requires
from orgs.permissions import Permission
from storage import downloads, links, objects, queries, serving, shelf
from storage.forms import UploadForm
from storage.models import Kind, Source, StoredObject
from storage.uploading import SpooledFile

ROWS = 25


@require_GET
@never_cache
@requires(Permission.STORAGE_READ)
def files(request: MemberRequest) -> HttpResponse:
    """The files, of one kind or of all, and how much room is left."""
    context = _page(request)
    part = "storage/_files.html" if _is_fragment(request) and request.GET.get("part") else "storage/page.html"
    return render(request, part, context)


@require_POST
@never_cache
@requires(Permission.STORAGE_WRITE)
def upload(request: MemberRequest) -> HttpResponse:
    """Keep a file. The same form again changes nothing."""
    form = UploadForm(request.POST, request.FILES, auto_id="upload-%s")
    if not form.is_valid():
        return _form(request, form, status=422)
    given = form.cleaned_data
    owner = shelf.Owner(
        request.access.workspace.pk, Source.UPLOAD, user_id=request.user.pk, form_token=given["form_token"]
    )
    try:
        row = _kept(owner, given["file"], given["kind"])
    except errors.Conflict:
        return _done(request, _("This file was already uploaded."), tone="warning")
    except errors.ProductError as error:
        form.add_error("kind" if error.param == "kind" else "file", error.message)
        return _form(request, form, status=error.status)
    serving.record("file.upload", row, audit.actor_of(request))
    return _done(request, _("“%(name)s” is stored.") % {"name": row.filename})


def _kept(owner: shelf.Owner, file: UploadedFile[bytes], kind: str) -> StoredObject:
    """The file in the storage: from where it was spooled as it came, or out of memory."""
    named: dict[str, str] = {"kind": kind, "filename": file.name or "", "content_type": file.content_type or ""}
    if isinstance(file, SpooledFile):
        return shelf.keep(file.spool, owner, **named)
    return objects.store_for(owner, file.chunks(), **named)


@require_http_methods(["GET", "POST"])
@never_cache
@requires(Permission.STORAGE_WRITE)
def delete(request: MemberRequest, object_id: UUID) -> HttpResponse:
    """Ask, then delete a file."""
    row = objects.find(request.access.workspace.pk, object_id)
    if row is None:
        raise errors.NotFound(_("There is no such file."))
    if request.method == "GET":
        context = {"file": row, "fragment": _is_fragment(request)}
        return render(request, f"storage/{'_delete_dialog' if _is_fragment(request) else 'delete'}.html", context)
    serving.delete(row, audit.actor_of(request))
    return _done(request, _("“%(name)s” is deleted.") % {"name": row.filename})


# ── Answers ──────────────────────────────────────────────────────────────────────────────────────────────────────────
def _page(request: MemberRequest) -> dict[str, Any]:
    kind = request.GET.get("kind", "")
    kind = kind if kind in Kind.values else ""
    before = ids.parse(request.GET.get("before", ""))
    workspace_id = request.access.workspace.pk
    found, more = queries.newest(workspace_id, kind=kind, before=before, limit=ROWS)
    older = {"kind": kind, "before": str(found[-1].pk)} if more else None
    return {
        "rows": [_row(row) for row in found],
        "kind": kind,
        "kinds": Kind.choices,
        "room": shelf.room(workspace_id),
        "most_file_bytes": settings.STORAGE_MOST_FILE_BYTES,
        "result_days": settings.STORAGE_RESULT_DAYS,
        "older": f"{reverse('storage')}?{urlencode(older)}" if older else "",
        "newer": f"{reverse('storage')}?{urlencode({'kind': kind})}" if before else "",
        "can_write": Permission.STORAGE_WRITE in request.access.permissions,
        "form": UploadForm.empty(),
        "fragment": True,
    }


def _row(row: StoredObject) -> dict[str, Any]:
    url = objects.signed_url(row)
    shown = row.content_type.partition("/")[0] if downloads.may_be_shown(row.content_type) else ""
    # The page's own policy lets in what comes from where the page came from, whatever name that goes by.
    return {"file": row, "url": url, "path": links.path_in(url), "shown": shown}


def _is_fragment(request: HttpRequest) -> bool:
    return bool(request.headers.get("HX-Request"))


def _form(request: MemberRequest, form: UploadForm, *, status: int) -> HttpResponse:
    """The form with what is wrong; htmx swaps nothing in from a 4xx."""
    if _is_fragment(request):
        answer = render(request, "storage/_upload_form.html", {**_page(request), "form": form})
        answer["HX-Retarget"], answer["HX-Reswap"] = "#upload-form", "outerHTML"
        return answer
    return render(request, "storage/page.html", {**_page(request), "form": form, "opened": True}, status=status)


def _done(request: MemberRequest, text: str, *, tone: str = "success") -> HttpResponse:
    if not _is_fragment(request):
        messages.success(request, text)
        return HttpResponseRedirect(reverse("storage"))
    answer = render(request, "storage/_answer.html", _page(request))
    answer["HX-Retarget"], answer["HX-Reswap"] = "#files", "outerHTML"
    toasts.say(answer, text, tone=tone)
    return answer
