"""SCIM 2.0 below /scim/v2/, with and without a last slash."""

from __future__ import annotations

from django.urls import re_path

from sso.scim import views

urlpatterns = [
    re_path(r"^ServiceProviderConfig/?$", views.config, name="scim_config"),
    re_path(r"^ResourceTypes/?$", views.resource_types),
    re_path(r"^ResourceTypes/(?P<key>[^/]+)/?$", views.resource_type),
    re_path(r"^Schemas/?$", views.schemas),
    re_path(r"^Schemas/(?P<key>[^/]+)/?$", views.schema),
    re_path(r"^Users/?$", views.all_users, name="scim_users"),
    re_path(r"^Users/\.search/?$", views.search_users),
    re_path(r"^Users/(?P<key>[^/]+)/?$", views.user, name="scim_user"),
    re_path(r"^Groups/?$", views.all_groups, name="scim_groups"),
    re_path(r"^Groups/\.search/?$", views.search_groups),
    re_path(r"^Groups/(?P<key>[^/]+)/?$", views.group, name="scim_group"),
    re_path(r"^\.search/?$", views.search_all),
    re_path(r"^(?P<path>.*)$", views.anything),
]
