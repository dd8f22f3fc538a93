"""The pages about jobs. Programs use ``/v1/jobs`` of the gateway."""

from __future__ import annotations

from django.urls import path

from jobs import views

urlpatterns = [
    path("jobs", views.jobs, name="jobs"),
    path("jobs/<uuid:job_id>", views.job, name="job"),
    path("jobs/<uuid:job_id>/row", views.row, name="job_row"),
    path("jobs/<uuid:job_id>/cancel", views.cancel, name="job_cancel"),
]
