"""Pages of the operator's admin that are more than a table: a form that does one thing, and figures to read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django import forms
from django.db.models import Model
from django.http import HttpRequest
from django.template.response import TemplateResponse

from events.admin import ReadOnlyAdmin


@dataclass(frozen=True, slots=True)
class Table:
    """A table of figures: ``note`` says how to read it, ``empty`` what stands there without rows."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    empty: str = ""

    @property
    def data(self) -> dict[str, Any]:
        """As the admin's table component takes it."""
        return {"headers": list(self.headers), "rows": [list(row) for row in self.rows]}


class StaffAdmin(ReadOnlyAdmin):
    """Open to every operator: whoever is staff may see it, and add where `adds` says so."""

    adds = False

    def has_view_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return bool(request.user.is_active and request.user.is_staff)

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def has_add_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        return self.adds and self.has_view_permission(request)

    def form_page(
        self, request: HttpRequest, form: forms.Form, *, title: str, submit: str, note: str = "", status: int = 200
    ) -> TemplateResponse:
        """One form in the admin's frame."""
        context = {"form": form, "submit_label": submit, "note": note, "media": self.media + form.media}
        return self._page(request, "operator/form.html", title, context, status)

    def figures_page(
        self, request: HttpRequest, *, title: str, tables: Sequence[Table], **context: Any
    ) -> TemplateResponse:
        """Tables of figures in the admin's frame; ``context`` may bring a ``form`` of what to show (sent by GET)."""
        return self._page(request, "operator/figures.html", title, {"tables": tables, **context}, 200)

    def _page(
        self, request: HttpRequest, template: str, title: str, context: dict[str, Any], status: int
    ) -> TemplateResponse:
        shared = {**self.admin_site.each_context(request), "opts": self.model._meta, "title": title}
        request.current_app = self.admin_site.name  # read by the admin's templates
        return TemplateResponse(request, template, {**shared, **context}, status=status)
