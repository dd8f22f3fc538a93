from django.apps import AppConfig
from django.conf import settings
from django.utils.translation import gettext_lazy as _


class SsoConfig(AppConfig):
    name = "sso"
    verbose_name = _("Single sign-on")

    def ready(self) -> None:
        if settings.ROLE == "gateway":  # nobody signs in there, and what SAML needs would be a fifth of its memory
            return
        from sso import signals  # noqa: F401  (receivers connect on import; models must be loaded first)
        from sso.saml import checks  # noqa: F401  (checks register on import)
