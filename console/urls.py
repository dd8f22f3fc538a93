"""Pages that join several apps."""

from __future__ import annotations

from django.urls import path

from console import account_views, health, home_views, key_views

urlpatterns = [
    path("", home_views.home, name="home"),
    path("workspace", home_views.switch_workspace, name="switch_workspace"),
    path("settings/account", account_views.account, name="account_settings"),
    path("manage-api-keys", key_views.keys, name="keys"),
    path("manage-api-keys/new", key_views.new_key, name="keys_new"),
    path("manage-api-keys/<uuid:key_id>", key_views.one_key, name="keys_one"),
    path("manage-api-keys/<uuid:key_id>/state", key_views.set_state, name="keys_state"),
    path("manage-api-keys/<uuid:key_id>/delete", key_views.delete_key, name="keys_delete"),
    path("healthz", health.healthz, name="healthz"),
    path("status", health.status, name="status"),
]
