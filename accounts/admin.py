"""People for operators. The tables of django-allauth that hold secrets (second factors, sessions) are not shown.

Nor are Django's groups: nobody is put into one here.
"""

from __future__ import annotations

from typing import Any, ClassVar

from allauth.account import admin as allauth_account
from allauth.account.models import EmailAddress
from allauth.mfa import admin as allauth_mfa
from allauth.mfa.models import Authenticator
from allauth.usersessions import admin as allauth_usersessions
from allauth.usersessions.models import UserSession
from django.contrib import admin
from django.contrib.auth import admin as auth_admin
from django.contrib.auth.models import Group
from django.forms import ModelForm
from django.http import HttpRequest

from accounts.models import User
from events import audit
from events.admin import AuditedAdmin, ReadOnlyAdmin

# Imported first: only what is registered can go.
_THEIRS = (allauth_account, allauth_mfa, allauth_usersessions, auth_admin)
for _model in (Authenticator, UserSession, EmailAddress, Group):
    admin.site.unregister(_model)


@admin.register(User)
class UserAdmin(AuditedAdmin):
    """An operator may name, deactivate and promote a person; passwords and addresses are the person's own."""

    list_display: ClassVar[Any] = ["email", "name", "is_active", "is_staff", "last_login", "date_joined"]
    list_filter: ClassVar[Any] = ["is_active", "is_staff"]
    search_fields: ClassVar[Any] = ["email", "name", "=id"]
    ordering: ClassVar[Any] = ["-date_joined"]
    fields: ClassVar[Any] = ["email", "name", "is_active", "is_staff", "is_superuser", "last_login", "date_joined"]
    readonly_fields: ClassVar[Any] = ["email", "last_login", "date_joined"]

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: User | None = None) -> bool:
        return False  # the ledger names people for ever: deactivate instead

    def get_readonly_fields(self, request: HttpRequest, obj: User | None = None) -> list[str]:
        """Only a superuser makes operators, and nobody locks themselves out."""
        locked = [] if request.user.is_superuser else ["is_staff", "is_superuser"]
        return [*self.readonly_fields, *locked, *(["is_active"] if obj == request.user else [])]

    def save_model(self, request: HttpRequest, obj: User, form: ModelForm[User], change: bool) -> None:
        super().save_model(request, obj, form, change)
        details = {name: form.cleaned_data[name] for name in form.changed_data}
        target = audit.Target("user", obj.pk, obj.email)
        audit.record("user.change_by_operator", actor=audit.actor_of(request), target=target, details=details)


@admin.register(EmailAddress)
class EmailAddressAdmin(ReadOnlyAdmin):
    list_display: ClassVar[Any] = ["email", "user", "primary", "verified"]
    list_filter: ClassVar[Any] = ["primary", "verified"]
    search_fields: ClassVar[Any] = ["email", "user__email"]
    list_select_related: ClassVar[Any] = ["user"]
