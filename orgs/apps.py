from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrgsConfig(AppConfig):
    name = "orgs"
    verbose_name = _("Workspaces")

    def ready(self) -> None:
        from orgs import mails, signals  # noqa: F401  (receivers connect on import; models must be loaded first)
