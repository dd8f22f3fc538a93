"""SCIM 2.0 below /scim/v2/, with and without a last slash."""

from __future__ import annotations

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse
from django.urls import re_path
from django.views.decorators.csrf import csrf_exempt


def _view(name: str) -> Callable[..., HttpResponse]:
    """The view ``name``. Its schemas take a second to build, so they are loaded when the first directory calls."""

    @csrf_exempt  # as the view is
    def call(request: HttpRequest, **rest: str) -> HttpResponse:
        from sso.scim import views

        answer: HttpResponse = getattr(views, name)(request, **rest)
        return answer

    return call


urlpatterns = [
    re_path(r"^ServiceProviderConfig/?$", _view("config"), name="scim_config"),
    re_path(r"^ResourceTypes/?$", _view("resource_types")),
    re_path(r"^ResourceTypes/(?P<key>[^/]+)/?$", _view("resource_type")),
    re_path(r"^Schemas/?$", _view("schemas")),
    re_path(r"^Schemas/(?P<key>[^/]+)/?$", _view("schema")),
    re_path(r"^Users/?$", _view("all_users"), name="scim_users"),
    re_path(r"^Users/\.search/?$", _view("search_users")),
    re_path(r"^Users/(?P<key>[^/]+)/?$", _view("user"), name="scim_user"),
    re_path(r"^Groups/?$", _view("all_groups"), name="scim_groups"),
    re_path(r"^Groups/\.search/?$", _view("search_groups")),
    re_path(r"^Groups/(?P<key>[^/]+)/?$", _view("group"), name="scim_group"),
    re_path(r"^\.search/?$", _view("search_all")),
    re_path(r"^(?P<path>.*)$", _view("anything")),
]
