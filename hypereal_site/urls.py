"""The web face: pages, the management API, the admin."""

from __future__ import annotations

from allauth.account.decorators import secure_admin_login
from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language

from hypereal_site.api import api
from sso.login_views import login
from sso.logout_views import logout

# The admin has no sign-in of its own: second factors and rate limits hold for operators too.
admin.site.login = secure_admin_login(admin.site.login)  # type: ignore[method-assign]

urlpatterns = [
    path("admin/", admin.site.urls),
    path("accounts/login/", login, name="account_login"),  # before allauth's own
    path("accounts/logout/", logout, name="account_logout"),
    path("accounts/", include("accounts.urls")),
    path("api/auth/sso/", include("sso.urls")),
    path("settings/organization/", include("sso.page_urls")),
    path("api/", api.urls),
    path("scim/v2/", include("sso.scim.urls")),
    path("settings/organization/", include("sso.scim.page_urls")),
    path("language", set_language, name="set_language"),
    path("", include("billing.urls")),
    path("", include("catalog.urls")),
    path("", include("console.urls")),
    path("", include("jobs.urls")),
    path("", include("infra.urls")),
    path("", include("statements.urls")),
    path("", include("storage.urls")),
    path("", include("usage.urls")),
    path("", include("vouchers.urls")),
    path("", include("webhooks.urls")),
]

handler400 = "core.views.bad_request"
handler403 = "core.views.forbidden"
handler404 = "core.views.not_found"
handler500 = "core.views.server_error"
