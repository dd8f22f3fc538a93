from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class SsoConfig(AppConfig):
    name = "sso"
    verbose_name = _("Single sign-on")

    def ready(self) -> None:
        from sso import signals  # noqa: F401  (receivers connect on import; models must be loaded first)
        from sso.saml import checks  # noqa: F401  (checks register on import)
