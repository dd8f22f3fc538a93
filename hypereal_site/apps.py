from django.apps import AppConfig


class SiteConfig(AppConfig):
    name = "hypereal_site"

    def ready(self) -> None:
        from hypereal_site import checks  # noqa: F401  (checks register on import)
