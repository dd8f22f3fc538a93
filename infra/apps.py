from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class InfraConfig(AppConfig):
    name = "infra"
    verbose_name = _("GPU")

    def ready(self) -> None:
        from infra import leaving, proofs  # noqa: F401  (the former listens to signals)
        from infra.kinds import GpuRuns, HostedRuns
        from jobs import kinds
        from usage import verify

        kinds.register(GpuRuns.name, GpuRuns)
        kinds.register(HostedRuns.name, HostedRuns)
        for proof in proofs.PROOFS:
            verify.register(*proof)
