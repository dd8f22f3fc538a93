"""The product's own addresses and the component sheet."""

from __future__ import annotations

from django.urls import path

from hypereal_site.urls import handler400, handler403, handler404, handler500
from hypereal_site.urls import urlpatterns as product
from tests.look.sheet import sheet

urlpatterns = [path("look/sheet", sheet), *product]
__all__ = ["handler400", "handler403", "handler404", "handler500", "urlpatterns"]
