"""Declares the kind."""

from django.apps import AppConfig


class PaintingsConfig(AppConfig):
    name = "tests.support.paintings"
    label = "paintings"

    def ready(self) -> None:
        from jobs import kinds
        from tests.support.paintings.kind import Paintings

        kinds.register(Paintings.name, Paintings)
