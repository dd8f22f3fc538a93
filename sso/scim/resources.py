"""What the directory may tell us, as scim2-models schemas: of the standard's resources only what is used here.

Whatever else a client sends is dropped (RFC 7644, 3.3): a phone number that nobody reads is only there to be lost.
"""

from typing import Annotated, Any, ClassVar, Final

from pydantic import EmailStr, Field
from scim2_models import (
    URN,
    CaseExact,
    ComplexAttribute,
    Mutability,
    PatchOp,
    Reference,
    Required,
    Resource,
    ResourceType,
    ScimPolicy,
    ScimProvider,
    SearchRequest,
    Uniqueness,
)
from scim2_models import ServiceProviderConfig as Config

#: Most resources in one page.
MOST_RESULTS: Final = 200
MOST_MEMBERS: Final = 20_000


class PersonName(ComplexAttribute):
    formatted: str | None = None
    """The whole name as it is shown."""

    family_name: str | None = None
    """The family name."""

    given_name: str | None = None
    """The given name."""


class Email(ComplexAttribute):
    value: EmailStr | None = None
    """The address."""

    type: str | None = Field(None, examples=["work", "home", "other"])
    """What the address is for."""

    primary: bool | None = None
    """Whether this is the address to use."""


class Membership(ComplexAttribute):
    value: Annotated[str | None, Mutability.read_only, CaseExact.true] = None
    """The id of the group."""

    ref: Annotated[Reference["Group"] | None, Mutability.read_only] = Field(
        None, serialization_alias="$ref", validation_alias="$ref"
    )
    """Where the group is."""

    display: Annotated[str | None, Mutability.read_only] = None
    """The name of the group."""


class User(Resource[Any]):
    """A person of the organization's directory."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:User")

    user_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    """The name that the directory knows the person by; usually the e-mail address."""

    name: PersonName | None = None
    """The parts of the person's name."""

    display_name: str | None = None
    """How the person is called."""

    active: bool | None = None
    """Whether the person has access. False ends it at once."""

    emails: list[Email] | None = None
    """The e-mail addresses of the person."""

    groups: Annotated[list[Membership] | None, Mutability.read_only] = None
    """The groups that the person is in."""

    Name: ClassVar[type[ComplexAttribute]] = PersonName
    Emails: ClassVar[type[ComplexAttribute]] = Email
    Groups: ClassVar[type[ComplexAttribute]] = Membership


class Member(ComplexAttribute):
    value: Annotated[str | None, Mutability.immutable, CaseExact.true] = None
    """The id of the person."""

    ref: Annotated[Reference["User"] | None, Mutability.immutable] = Field(
        None, serialization_alias="$ref", validation_alias="$ref"
    )
    """Where the person is."""

    type: Annotated[str | None, Mutability.immutable] = Field(None, examples=["User"])
    """The kind of member; people only."""


class Group(Resource[Any]):
    """A group of the organization's directory. The connection's role map may give its members a role."""

    __schema__ = URN("urn:ietf:params:scim:schemas:core:2.0:Group")

    display_name: Annotated[str | None, Uniqueness.server, Required.true] = None
    """The name of the group."""

    members: list[Member] | None = None
    """The people in the group."""

    Members: ClassVar[type[ComplexAttribute]] = Member


#: Common clients depart from the standard in these ways: attributes that are not in the schema, a `remove` with its
#: target in the value, a path with a filter that matches nothing yet.
POLICY: Final = ScimPolicy(
    unknown=ScimPolicy.Unknown.ignore,
    remove_value_as_filter=ScimPolicy.RemoveValue.apply,
    unmatched_path_filter=ScimPolicy.UnmatchedPathFilter.create,
)


def service_config() -> Config:
    """What this service can do."""
    return Config.model_validate(
        {
            "patch": {"supported": True},
            "bulk": {"supported": False, "maxOperations": 0, "maxPayloadSize": 0},
            "filter": {"supported": True, "maxResults": MOST_RESULTS},
            "changePassword": {"supported": False},
            "sort": {"supported": True},
            "etag": {"supported": False},
            "authenticationSchemes": [
                {
                    "type": "oauthbearertoken",
                    "name": "Bearer token",
                    "description": "A token of this connection, made on the organization's settings page.",
                    "specUri": "https://www.rfc-editor.org/info/rfc6750",
                    "primary": True,
                }
            ],
        }
    )


PROVIDER: Final = ScimProvider(
    models=[User, Group],
    resource_types=[ResourceType.from_resource(User), ResourceType.from_resource(Group)],
    config=service_config(),
    policy=POLICY,
)

UserPatch: Final = PatchOp[User]
GroupPatch: Final = PatchOp[Group]
UserSearch: Final = SearchRequest[User]
GroupSearch: Final = SearchRequest[Group]
