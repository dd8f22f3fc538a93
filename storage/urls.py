"""Addresses of the storage on the web face."""

from __future__ import annotations

from django.urls import path

from storage import downloads

urlpatterns = [
    path("files/<str:token>/<str:filename>", downloads.download, name="stored_file"),
]
