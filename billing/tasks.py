"""What workers do for billing. Each is also done by a sweep, so a lost wake-up only costs time."""

from __future__ import annotations

from uuid import UUID

from billing import stripe_events, topups


def handle_stripe_event(event_id: str) -> None:
    """Handle a stored webhook."""
    stripe_events.handle(event_id)


def follow_up_topup(topup_id: str) -> None:
    """Keep the card and mail the receipt of a paid top-up."""
    topups.follow_up(UUID(topup_id))
