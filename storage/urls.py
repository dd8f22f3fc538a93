"""Addresses of the storage on the web face."""

from __future__ import annotations

from django.urls import path

from storage import downloads, views

urlpatterns = [
    path("storage", views.files, name="storage"),
    path("storage/upload", views.upload, name="storage_upload"),
    path("storage/<uuid:object_id>/delete", views.delete, name="storage_delete"),
    path("files/<str:token>/<str:filename>", downloads.download, name="stored_file"),
]
