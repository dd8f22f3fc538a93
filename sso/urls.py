"""The public addresses of single sign-on, one set a connection. All below the path of `sso.flows.COOKIE_PATH`."""

from __future__ import annotations

from django.urls import path

from sso import views
from sso.saml import views as saml

urlpatterns = [
    path("<str:provider_id>", views.endpoint, name="sso_endpoint"),
    path("<str:provider_id>/login", views.login, name="sso_login"),
    path("<str:provider_id>/logout", views.signed_out, name="sso_signed_out"),
    path("<str:provider_id>/finish", saml.finish, name="sso_finish"),
    path("<str:provider_id>/metadata", saml.metadata, name="sso_metadata"),
]
