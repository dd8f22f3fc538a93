"""The library of queues, under names that operators can read in the admin."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _
from django_rq.apps import DjangoRqAdminConfig


class QueuesConfig(DjangoRqAdminConfig):
    verbose_name = _("Background work")

    def ready(self) -> None:
        """Name its only entry, which is a page and no table."""
        named = self.get_model("Dashboard")._meta
        named.verbose_name, named.verbose_name_plural = _("queue"), _("Queues")
