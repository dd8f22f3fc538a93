"""Who acts through a key, as the audit trail names them."""

from __future__ import annotations

from django.conf import settings

from events import audit
from gateway.request import GatewayRequest


def of(request: GatewayRequest) -> audit.Actor:
    """The maker of the key, acting through it."""
    address = request.address(settings.TRUSTED_PROXY_COUNT)
    return audit.Actor(
        user_id=request.key.user_id,
        label=f"API key {request.key.name}",
        address=None if address is None else str(address),
        request_id=request.id,
    )
