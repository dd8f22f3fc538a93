"""Operators read the log of calls and the sealed days here. Nobody writes them: the database would refuse, too."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Final

from django.contrib import admin
from django.core.paginator import Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

from core import ids
from events.admin import ReadOnlyAdmin
from usage.models import Checkpoint, RequestLog

#: The list ends here: counting a whole log would read it all. Older calls are found by their id.
MOST_LISTED: Final = 2_000


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Counts no further than the list goes."""

    @cached_property
    def count(self) -> int:
        rows: Any = self.object_list
        return int(rows[:MOST_LISTED].count())


@admin.register(RequestLog)
class RequestLogAdmin(ReadOnlyAdmin):
    """The newest calls of all workspaces; the search takes the id of a request or of a workspace."""

    list_display = (
        "billed_at", "workspace_id", "key_name", "endpoint", "model", "target", "status", "error_type",
        "charged_microcredits",
    )  # fmt: skip
    list_display_links = ("billed_at",)
    search_fields = ("request_id",)
    ordering = ("-id",)
    sortable_by = ()
    paginator = BoundedPaginator
    show_full_result_count = False

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[RequestLog], search_term: str
    ) -> tuple[QuerySet[RequestLog], bool]:
        """By the primary key for a call, by the index for a workspace."""
        if not search_term:
            return queryset, False
        identifier = ids.parse(search_term.strip())
        if identifier is None:
            return queryset.none(), False
        found = queryset.filter(pk=identifier)
        return (found if found.exists() else queryset.filter(workspace_id=identifier)), False


@admin.register(Checkpoint)
class CheckpointAdmin(ReadOnlyAdmin):
    """The days whose books were found right."""

    list_display = ("day", "log_rows", "charged_microcredits", "transfers", "amount_microcredits", "sealed_at")
    ordering = ("-day",)
    sortable_by = ()
