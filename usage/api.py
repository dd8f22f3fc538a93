"""``/api/api-usage``: the log and its sums for scripts that hold a person's session. Amounts are credits."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any
from uuid import UUID

from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from ninja import Router, Schema
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel

from core import money
from orgs import access
from orgs.permissions import Permission
from usage import export, filters, queries
from usage.filters import UsageQuery
from usage.queries import DayCost, ModelCost

router = Router(tags=["Usage"])

#: Rows of the log in one answer where ``limit`` says nothing.
ROWS = 1_000

_ORGANIZATION = {"organizationId": "Id of the organization that is meant. Default: the workspace in use."}


def _documented(names: dict[str, str]) -> dict[str, Any]:
    """The query parameters for the API's description: they are read by `UsageQuery`, not by the framework."""
    parameters = [
        {"name": name, "in": "query", "required": False, "schema": {"type": "string"}, "description": meaning}
        for name, meaning in names.items()
    ]
    return {"parameters": parameters}


class _Answer(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


class LogEntry(_Answer):
    """One call. The CSV has the same columns."""

    request_id: UUID
    created_at: datetime = Field(description="When the call was billed: the time that dates it in log and ledger.")
    endpoint: str
    model: str
    provider: str
    status: int
    latency_ms: int
    ttfb_ms: int | None = Field(description="Time to the first byte.")
    input_tokens: int
    cached_input_tokens: int
    cache_write_tokens: int
    output_tokens: int
    units: int | float | None = Field(description="Images, seconds or clips, where tokens are not what is billed.")
    cost_credits: int | float
    estimated: bool = Field(description="The upstream reported no usage: tokens are our own count.")
    error_type: str | None
    key_name: str


class CostOfModel(_Answer):
    model: str
    requests: int
    cost_credits: int | float


class CostOfDay(_Answer):
    date: date
    requests: int
    cost_credits: int | float


class UsageAnswer(_Answer):
    logs: list[LogEntry]
    cost_by_model: list[CostOfModel]
    top_expensive_requests: list[LogEntry]
    daily_cost: list[CostOfDay]
    next_cursor: str | None = Field(description="Pass it as `cursor` for the rows that follow; null on the last page.")


@router.get(
    "",
    auth=access.member(),
    response=UsageAnswer,
    by_alias=True,
    summary="Log and costs",
    openapi_extra=_documented(filters.PARAMETERS | _ORGANIZATION),
)
def read_usage(request: HttpRequest) -> HttpResponse:
    """The newest calls of the last days, what they cost by model and by day, and the ten most expensive ones."""
    workspace_id, query = _asked(request)
    sums = queries.summary(workspace_id, query)
    page = queries.page(workspace_id, query, ROWS)
    # Answered as it is: a thousand rows through the schema would cost more than reading them from the database.
    return JsonResponse(
        {
            "logs": [export.entry(row) for row in page.rows],
            "costByModel": [_model(cost) for cost in sums.models],
            "topExpensiveRequests": [export.entry(row) for row in queries.dearest(workspace_id, query)],
            "dailyCost": [_day(cost) for cost in sums.days],
            "nextCursor": None if page.next_before is None else filters.cursor_of(page.next_before),
        }
    )


@router.get(
    "/export",
    auth=access.member(),
    response={200: None},
    summary="The log as CSV",
    openapi_extra=_documented(
        {name: meaning for name, meaning in filters.PARAMETERS.items() if name not in ("limit", "cursor")}
        | _ORGANIZATION
    ),
)
def export_usage(request: HttpRequest) -> StreamingHttpResponse:
    """Every call of the last days, newest first, as a CSV file that is sent while it is read."""
    workspace_id, query = _asked(request)
    return export.response(queries.stream(workspace_id, query), query.today)


def _asked(request: HttpRequest) -> tuple[UUID, UsageQuery]:
    """The workspace that is meant, if the asker may read its usage, and what of it."""
    place = access.current(request)
    if organization_id := request.GET.get("organizationId"):
        place = access.in_workspace(place.user, organization_id)
    place.require(Permission.USAGE_READ)
    return place.workspace.pk, UsageQuery.parse(request.GET)


def _model(cost: ModelCost) -> dict[str, Any]:
    return {"model": cost.model, **_sums(cost)}


def _day(cost: DayCost) -> dict[str, Any]:
    return {"date": cost.day.isoformat(), **_sums(cost)}


def _sums(cost: ModelCost | DayCost) -> dict[str, Any]:
    return {
        "requests": cost.totals.requests,
        "costCredits": money.credits_json(cost.totals.charged_microcredits),
    }
