"""The pages of billing and Stripe's way in."""

from __future__ import annotations

from django.urls import path

from billing import auto_views, views

app_name = "billing"

urlpatterns = [
    path("billing", views.overview, name="overview"),
    path("billing/topups", views.start, name="start"),
    path("billing/topups.csv", views.export, name="export"),
    path("billing/topups/<uuid:topup_id>/return", views.came_back, name="return"),
    path("billing/topups/<uuid:topup_id>/state", views.state, name="state"),
    path("billing/auto-topup", auto_views.page, name="auto"),
    path("billing/auto-topup/change", auto_views.change, name="change_auto"),
    path("billing/card/remove", auto_views.remove_card, name="remove_card"),
    path("billing/portal", auto_views.portal, name="portal"),
    path("billing/webhooks/stripe", views.stripe_webhook, name="stripe_webhook"),
]
