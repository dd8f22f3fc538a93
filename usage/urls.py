"""The usage pages. Their JSON and CSV are in `usage.api`."""

from __future__ import annotations

from django.urls import path

from usage import views

urlpatterns = [
    path("usage", views.usage, name="usage"),
    path("usage/requests", views.more_requests, name="usage_requests"),
    path("usage/requests/<uuid:row_id>", views.request_detail, name="usage_request"),
]
