"""Pages about GPUs."""

from __future__ import annotations

from django.urls import path

from infra import try_views, views

app_name = "infra"

urlpatterns = [
    path("infra", views.overview, name="overview"),
    path("infra/deployments", views.listing, name="deployments"),
    path("infra/deployments/new", views.new, name="new"),
    path("infra/deployments/<uuid:deployment_id>", views.detail, name="deployment"),
    path("infra/deployments/<uuid:deployment_id>/state", views.state, name="state"),
    path("infra/deployments/<uuid:deployment_id>/edit", views.edit, name="edit"),
    path("infra/deployments/<uuid:deployment_id>/delete", views.delete, name="delete"),
    path("gpu-recommend", views.recommend, name="recommend"),
    path("gpu-recommend/<str:slug>/try", try_views.try_model, name="try"),
]
