"""The pages of webhooks."""

from __future__ import annotations

from django.urls import path

from webhooks import log_views, views

urlpatterns = [
    path("settings/webhooks", views.webhooks, name="webhooks"),
    path("settings/webhooks/new", views.new, name="webhook_new"),
    path("settings/webhooks/secret", views.secret, name="webhook_secret"),
    path("settings/webhooks/deliveries", log_views.own_deliveries, name="webhook_deliveries"),
    path("settings/webhooks/deliveries/<uuid:delivery_id>", log_views.delivery, name="webhook_delivery"),
    path("settings/webhooks/deliveries/<uuid:delivery_id>/replay", log_views.replay, name="webhook_replay"),
    path("settings/webhooks/<uuid:webhook_id>", views.one, name="webhook"),
    path("settings/webhooks/<uuid:webhook_id>/edit", views.edit, name="webhook_edit"),
    path("settings/webhooks/<uuid:webhook_id>/state", views.state, name="webhook_state"),
    path("settings/webhooks/<uuid:webhook_id>/rotate", views.rotate, name="webhook_rotate"),
    path("settings/webhooks/<uuid:webhook_id>/delete", views.delete, name="webhook_delete"),
    path("settings/webhooks/<uuid:webhook_id>/test", views.send_test, name="webhook_test"),
    path("settings/webhooks/<uuid:webhook_id>/recover", views.recover, name="webhook_recover"),
]
