"""Long work that outlives a request: one row a job, its moves, and the workers that make them."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class JobsConfig(AppConfig):
    name = "jobs"
    verbose_name = _("Jobs")

    def ready(self) -> None:
        from jobs.proofs import PROOFS
        from usage import verify

        for proof in PROOFS:
            verify.register(*proof)
