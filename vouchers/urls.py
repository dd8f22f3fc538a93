"""The page where a code is redeemed."""

from __future__ import annotations

from django.urls import path

from vouchers import views

app_name = "vouchers"

urlpatterns = [path("billing/voucher", views.redeem, name="redeem")]
