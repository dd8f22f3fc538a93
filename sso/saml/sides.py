"""Both sides of one connection: what its row holds, as the values that the protocol's functions take."""

from __future__ import annotations

from django.db import transaction

from core import secrets
from sso import addresses
from sso.flows import Started
from sso.models import SsoConnection
from sso.saml import metadata, request
from sso.saml.parties import IdentityProvider, KeyPair, ServiceProvider
from sso.saml.refusals import Refused


def their(connection: SsoConnection) -> IdentityProvider:
    """The identity provider that was registered. Raises Refused where none is yet."""
    if not connection.idp_entity_id or not connection.idp_certificates:
        raise Refused("unregistered")
    return IdentityProvider(
        entity_id=connection.idp_entity_id,
        sso_url=connection.idp_sso_url,
        certificates=tuple(connection.idp_certificates),
        binding=connection.idp_sso_binding,
        sign_requests=connection.sign_requests,
        name_id_format=connection.name_id_format,
    )


def our(connection: SsoConnection) -> ServiceProvider:
    """Our side, under an entity id and with a key that no other connection has. The key is made when first needed."""
    if connection.sp_private_key_sealed is None:
        _make_keys(connection)
    return ServiceProvider(
        entity_id=addresses.metadata(connection),
        acs_url=addresses.endpoint(connection),
        private_key=secrets.decrypt(bytes(connection.sp_private_key_sealed or b"")),
        certificate=connection.sp_certificate,
    )


def _make_keys(connection: SsoConnection) -> None:
    """Keep the pair that is written first: the other one's certificate may be registered already."""
    made = KeyPair.new(f"Hypereal {connection.provider_id}")
    with transaction.atomic():
        row = SsoConnection.objects.select_for_update(of=("self",)).get(pk=connection.pk)
        if row.sp_private_key_sealed is None:
            row.sp_private_key_sealed = secrets.encrypt(made.private_key)
            row.sp_certificate = made.certificate
            row.save(update_fields=["sp_private_key_sealed", "sp_certificate"])
    connection.sp_private_key_sealed = row.sp_private_key_sealed
    connection.sp_certificate = row.sp_certificate


def take(connection: SsoConnection, idp: IdentityProvider) -> None:
    """Put what the metadata says onto the row. The caller saves it, and records who did it."""
    connection.idp_entity_id = idp.entity_id
    connection.idp_sso_url = idp.sso_url
    connection.idp_sso_binding = idp.binding
    connection.idp_certificates = list(idp.certificates)
    connection.sign_requests = idp.sign_requests
    connection.name_id_format = idp.name_id_format


def own_metadata(connection: SsoConnection) -> bytes:
    """What is registered at the provider."""
    return metadata.of_service(our(connection), sign_requests=connection.sign_requests)


def address(connection: SsoConnection, started: Started) -> str:
    """Where the browser of a started flow goes; the flow's ``request_id`` is the question's id."""
    return request.address(
        their(connection), our(connection), request_id=started.flow.request_id, relay_state=started.state
    )
