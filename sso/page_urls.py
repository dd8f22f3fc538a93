"""The settings pages of single sign-on, below /settings/organization/."""

from __future__ import annotations

from django.urls import path

from sso import pages

urlpatterns = [
    path("sso", pages.overview, name="organization_sso"),
    path("sso/new", pages.new, name="organization_sso_new"),
    path("sso/<str:provider_id>", pages.connection, name="organization_sso_connection"),
    path("sso/<str:provider_id>/roles", pages.roles, name="organization_sso_roles"),
    path("sso/<str:provider_id>/state", pages.state, name="organization_sso_state"),
    path("sso/<str:provider_id>/check", pages.check, name="organization_sso_check"),
    path("sso/<str:provider_id>/test", pages.test, name="organization_sso_test"),
    path("sso/<str:provider_id>/delete", pages.delete, name="organization_sso_delete"),
    path("domains", pages.all_domains, name="organization_domains"),
    path("domains/<uuid:domain_id>/verify", pages.verify, name="organization_domain_verify"),
    path("domains/<uuid:domain_id>/route", pages.route, name="organization_domain_route"),
    path("domains/<uuid:domain_id>/remove", pages.remove, name="organization_domain_remove"),
]
