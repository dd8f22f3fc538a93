"""A provisioning client: what a company's directory sends."""

from __future__ import annotations

import json
from typing import Any

from django.test import Client

from events import audit
from sso.models import SsoConnection
from sso.scim import tokens

SCHEMA = "urn:ietf:params:scim:schemas:core:2.0"
PATCH = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
ROBIN = {"schemas": [f"{SCHEMA}:User"], "userName": "robin@acme.example", "externalId": "e-1", "active": True,
         "name": {"givenName": "Robin", "familyName": "Example"},
         "emails": [{"value": "robin@acme.example", "type": "work", "primary": True}]}  # fmt: skip


class Directory:
    """A provisioning client with a token."""

    def __init__(self, connection: SsoConnection) -> None:
        issued = tokens.issue(connection, actor=audit.SYSTEM, created_by=None, name="Entra")
        self.token, self.secret = issued.token, issued.secret
        self.client = Client(headers={"authorization": f"Bearer {issued.secret}"})

    def __call__(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        data = b"" if body is None else json.dumps(body).encode()
        return self.client.generic(
            method, f"/scim/v2/{path}", data, content_type="application/scim+json", query_params=query
        )

    def create(self, **changes: Any) -> dict[str, Any]:
        answer = self("POST", "Users", {**ROBIN, **changes})
        assert answer.status_code == 201, answer.content
        made: dict[str, Any] = answer.json()
        return made

    def patch(self, path: str, *operations: dict[str, Any]) -> Any:
        return self("PATCH", path, {"schemas": [PATCH], "Operations": list(operations)})

    def group(self, name: str, *people: dict[str, Any]) -> dict[str, Any]:
        body = {"schemas": [f"{SCHEMA}:Group"], "displayName": name, "members": [{"value": p["id"]} for p in people]}
        answer = self("POST", "Groups", body)
        assert answer.status_code == 201, answer.content
        made: dict[str, Any] = answer.json()
        return made
