"""The pages and files of statements."""

from __future__ import annotations

from django.urls import path

from statements import views

app_name = "statements"

urlpatterns = [
    path("billing/statements", views.overview, name="overview"),
    path("billing/statements/<str:month>.csv", views.statement_csv, name="csv"),
    path("billing/statements/<str:month>.pdf", views.statement_pdf, name="pdf"),
    path("billing/statements/<str:month>/calls.csv", views.calls_csv, name="calls"),
    path("billing/statements/<str:month>", views.statement, name="statement"),
    path("billing/profile", views.profile, name="profile"),
]
