"""What apps above can hear of keys, in the transaction that does it."""

from __future__ import annotations

from django.dispatch import Signal

#: ``key``, and ``changed``: which of spending_limit_microcredits and auto_disable is another now.
limit_changed = Signal()
