from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class MediaConfig(AppConfig):
    name = "media"
    verbose_name = _("Media")

    def ready(self) -> None:
        from catalog import endpoints
        from jobs import kinds
        from media.video_jobs import Videos

        kinds.register(endpoints.VIDEOS, Videos)
