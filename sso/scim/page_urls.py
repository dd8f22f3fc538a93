"""The settings page of provisioning, below /settings/organization/."""

from __future__ import annotations

from django.urls import path

from sso.scim import pages

urlpatterns = [
    path("sso/<str:provider_id>/provisioning", pages.provisioning, name="organization_scim"),
    path("sso/<str:provider_id>/provisioning/<uuid:token_id>/revoke", pages.revoke, name="organization_scim_revoke"),
]
