"""Sign-in and security pages: django-allauth's, and one of ours."""

from __future__ import annotations

from django.urls import include, path

from accounts import views

urlpatterns = [
    path("sessions/<int:session_id>/end/", views.end_session, name="accounts_end_session"),
    path("", include("allauth.urls")),
]
