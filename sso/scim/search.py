"""Lists: filters, order and pages over the resources of one directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from django.db.models import Model, QuerySet
from scim2_models import Context, ListResponse, Resource, SearchRequest
from scim2_models.path import CompareOperator, Comparison

from core import ids
from sso.scim.resources import MOST_RESULTS

Row = TypeVar("Row", bound=Model)

#: Attributes that the database can look for by itself: what clients ask before they create anything.
_COLUMNS: Final[Mapping[str, str]] = {
    "username": "user_name__iexact",
    "displayname": "display_name__iexact",
    "externalid": "external_id",
    "id": "pk",
}


def page(
    rows: QuerySet[Row], resource: Callable[[Row], Resource[Any]], wanted: SearchRequest[Any], kind: type[Resource[Any]]
) -> dict[str, Any]:
    """The answer to a list request."""
    start = wanted.start_index_0 or 0
    count = min(MOST_RESULTS if wanted.count is None else wanted.count, MOST_RESULTS)
    if wanted.filter is None and wanted.sort_by is None:
        total = rows.count()
        found = [resource(row) for row in rows[start : start + count]]
    else:
        matching = [made for made in map(resource, _narrowed(rows, wanted)) if _matches(wanted, made)]
        total = len(matching)
        found = wanted.sort(matching)[start : start + count]
    answer = ListResponse.__class_getitem__(kind)(
        total_results=total, start_index=start + 1, items_per_page=len(found), resources=found
    )
    dumped: dict[str, Any] = answer.model_dump(scim_ctx=Context.RESOURCE_QUERY_RESPONSE, response_parameters=wanted)
    dumped.setdefault("Resources", [])
    return dumped


def _matches(wanted: SearchRequest[Any], made: Resource[Any]) -> bool:
    return wanted.filter is None or bool(wanted.filter.match(made))


def _narrowed(rows: QuerySet[Row], wanted: SearchRequest[Any]) -> QuerySet[Row]:
    """Fewer rows to look at, where the filter is one plain comparison; the filter itself still decides."""
    node = wanted.filter.ast if wanted.filter is not None else None
    if not isinstance(node, Comparison) or node.op != CompareOperator.eq or not isinstance(node.value, str):
        return rows
    column = _COLUMNS.get(str(node.attr_path).lower())
    fields = {field.name for field in rows.model._meta.get_fields()} | {"pk"}
    if column is None or column.partition("__")[0] not in fields:
        return rows
    value = ids.parse(node.value) if column == "pk" else node.value
    return rows.filter(**{column: value}) if value is not None and "\x00" not in node.value else rows.none()
