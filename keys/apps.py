from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class KeysConfig(AppConfig):
    name = "keys"
    verbose_name = _("API keys")

    def ready(self) -> None:
        from keys import internal, leaving  # noqa: F401  (receivers connect on import; models must be loaded first)
