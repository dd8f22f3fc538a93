"""The session's gateway, for every test of this folder."""

from tests.support.gateway import _gateway_session, gateway

__all__ = ["_gateway_session", "gateway"]
