"""Identity providers of organizations, the domains they may speak for, and the people they vouch for.

Who somebody is, is always the pair (connection, subject): an e-mail address, an issuer or an entity id alone never is,
because any organization could claim those.
"""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils.translation import gettext_lazy as _

from core import clock, ids
from orgs.models import Workspace
from orgs.permissions import Role
from sso import identifiers

SUBJECT_LENGTH = 255
DOMAIN_LENGTH = 253

#: Roles that a connection may give: an owner is only ever made by an owner.
GIVEN_ROLES = tuple(role for role in Role if role != Role.OWNER)


class SsoConnection(models.Model):
    """One identity provider of one organization. As a draft it only shows the addresses to register over there."""

    class Kind(models.TextChoices):
        SAML = "saml", _("SAML 2.0")
        OIDC = "oidc", _("OpenID Connect")

    class Status(models.TextChoices):
        DRAFT = "draft", _("Draft")
        ACTIVE = "active", _("Active")
        DISABLED = "disabled", _("Disabled")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    #: Names the connection in its URLs. Fixed length, so that none is the beginning of another.
    provider_id = models.CharField(max_length=22, unique=True, default=identifiers.provider_id, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="sso_connections")
    kind = models.CharField(max_length=8, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=80, blank=True)
    status = models.CharField(max_length=8, choices=Status.choices, default=Status.DRAFT)
    #: The organization's people at its proven domains may sign in this way only.
    enforced = models.BooleanField(_("required"), default=False)

    # What a sign-in is worth here
    default_role = models.CharField(
        _("default role"),
        max_length=16,
        choices=[(role.value, role.label) for role in GIVEN_ROLES],
        default=Role.VIEWER,
    )
    #: The claim or attribute whose values `role_map` turns into roles; empty = nobody's role is read from the provider.
    role_claim = models.CharField(_("role attribute"), max_length=255, blank=True)
    role_map = models.JSONField(default=dict, blank=True)
    #: Ours → theirs, where the provider's names differ from the usual ones: {"email": "mail", "name": "cn"}.
    attribute_map = models.JSONField(default=dict, blank=True)
    #: SAML: take answers that nobody here asked for, after the person has agreed on a page of ours.
    idp_initiated = models.BooleanField(_("sign-in started by the provider"), default=False)

    # How the provider answered when it was last asked (discovery, metadata)
    last_check_at = models.DateTimeField(null=True, blank=True)
    last_check_ok = models.BooleanField(null=True)
    last_check_error = models.CharField(max_length=300, blank=True)

    # OpenID Connect
    issuer = models.CharField(_("issuer"), max_length=1000, blank=True)
    client_id = models.CharField(_("client ID"), max_length=255, blank=True)
    client_secret_sealed = models.BinaryField(null=True, editable=False)
    #: What is used of the discovery document, as it was checked when it was fetched.
    discovery = models.JSONField(default=dict, blank=True)
    #: Signing algorithms that ID tokens may bear: the provider's and ours at the last fetch. Never a symmetric one.
    algorithms = models.JSONField(default=list, blank=True)
    jwks = models.JSONField(default=dict, blank=True)
    jwks_fetched_at = models.DateTimeField(null=True, blank=True)
    #: Whoever signs out here is led to the provider's own sign-out (OpenID Connect RP-Initiated Logout 1.0).
    provider_logout = models.BooleanField(_("sign-out at the provider"), default=False)

    # SAML, their side
    idp_entity_id = models.CharField(_("entity ID"), max_length=1024, blank=True)
    idp_sso_url = models.CharField(_("sign-on address"), max_length=1000, blank=True)
    idp_sso_binding = models.CharField(max_length=100, blank=True)
    #: PEM; all that the metadata name for signing, so that a certificate can be rolled over.
    idp_certificates = models.JSONField(default=list, blank=True)
    idp_metadata_url = models.CharField(_("metadata address"), max_length=1000, blank=True)
    #: The provider wants requests to be signed.
    sign_requests = models.BooleanField(default=False)
    name_id_format = models.CharField(max_length=120, blank=True)

    # SAML, our side: every connection has an entity id (its metadata address) and a key pair of its own
    sp_private_key_sealed = models.BinaryField(null=True, editable=False)
    sp_certificate = models.TextField(blank=True)

    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("identity provider")
        verbose_name_plural = _("identity providers")
        constraints = [
            models.CheckConstraint(name="sso_connection_kind_known", condition=Q(kind__in=["saml", "oidc"])),
            models.CheckConstraint(
                name="sso_connection_status_known", condition=Q(status__in=["draft", "active", "disabled"])
            ),
            models.CheckConstraint(
                name="sso_connection_role_given",
                condition=Q(default_role__in=[role.value for role in GIVEN_ROLES]),
            ),
        ]

    def __str__(self) -> str:
        return self.name or f"{self.get_kind_display()} {self.provider_id}"

    @property
    def is_active(self) -> bool:
        """Whether people may sign in over it."""
        return self.status == self.Status.ACTIVE


class OrgDomain(models.Model):
    """An e-mail domain that an organization claims. Only a proven one routes sign-ins and lets anybody in."""

    class Method(models.TextChoices):
        DNS = "dns", _("DNS record")
        FILE = "file", _("File on the web site")
        OPERATOR = "operator", _("Confirmed by the operator")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="domains")
    #: Lower case, ASCII (IDNA).
    domain = models.CharField(_("domain"), max_length=DOMAIN_LENGTH)
    #: Where its people sign in; empty = with the organization's only active connection.
    connection = models.ForeignKey(
        SsoConnection, null=True, blank=True, on_delete=models.SET_NULL, related_name="domains"
    )
    #: What the record or the file must say. No secret: it is published.
    token = models.CharField(max_length=64, default=identifiers.domain_token, editable=False)
    method = models.CharField(max_length=8, choices=Method.choices, blank=True)
    verified_at = models.DateTimeField(_("proven"), null=True, blank=True)
    checked_at = models.DateTimeField(null=True, blank=True)
    #: Checks in a row that did not find the proof; a proven domain survives a few.
    failures = models.PositiveSmallIntegerField(default=0)
    created_at = models.DateTimeField(default=clock.now, editable=False)

    class Meta:
        verbose_name = _("domain")
        verbose_name_plural = _("domains")
        constraints = [
            models.UniqueConstraint(fields=["workspace", "domain"], name="sso_domain_once_a_workspace"),
            models.UniqueConstraint(
                fields=["domain"], condition=Q(verified_at__isnull=False), name="sso_domain_proven_once"
            ),
            models.CheckConstraint(name="sso_domain_lower_case", condition=Q(domain=Lower("domain"))),
        ]

    def __str__(self) -> str:
        return self.domain


class SsoIdentity(models.Model):
    """A person as one provider knows them. A provider knows a person once."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="identities")
    subject = models.CharField(max_length=SUBJECT_LENGTH)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="sso_identities")
    #: What the provider said at the last sign-in; for people to read, never to look somebody up.
    email = models.EmailField(max_length=254)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    last_sign_in_at = models.DateTimeField(null=True, blank=True)
    #: When it first brought the person into the organization. Whoever is removed after that is not let in again by it.
    joined_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        verbose_name = _("identity")
        verbose_name_plural = _("identities")
        constraints = [
            models.UniqueConstraint(fields=["connection", "subject"], name="sso_identity_subject_once"),
            models.UniqueConstraint(fields=["connection", "user"], name="sso_identity_user_once"),
        ]

    def __str__(self) -> str:
        return f"{self.email} ({self.subject})"


class SsoFlow(models.Model):
    """One sign-in under way, from the redirect to the provider until its answer is used. Each step counts once."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="flows")
    #: Keyed hash of the `state` or RelayState that travels.
    state_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    #: Keyed hash of the cookie of the browser that started; only that browser may end it. Empty = started elsewhere.
    browser_hash = models.BinaryField(max_length=32, editable=False)
    #: SAML: the id of our AuthnRequest, which InResponseTo must repeat.
    request_id = models.CharField(max_length=64, blank=True)
    #: OpenID Connect: hash of the nonce, and the PKCE verifier.
    nonce_hash = models.BinaryField(max_length=32, null=True, editable=False)
    verifier_sealed = models.BinaryField(null=True, editable=False)
    #: Where the person wanted to go: a path of this site.
    next_path = models.CharField(max_length=2048, blank=True)
    #: A test from the settings page: the answer is checked and shown to this person, and nobody is signed in.
    tester = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.CASCADE, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField()
    #: The provider's answer came.
    answered_at = models.DateTimeField(null=True, blank=True)
    #: What the answer said, sealed, until the browser fetches it at /finish with a token of its own.
    parked_sealed = models.BinaryField(null=True, editable=False)
    finish_hash = models.BinaryField(max_length=32, null=True, unique=True, editable=False)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["expires_at"], name="sso_flow_expires")]

    def __str__(self) -> str:
        return f"flow {self.pk}"


class SsoConsumed(models.Model):
    """An assertion or token that was taken once and must not be taken again until it expires by itself."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="+")
    #: Keyed hash of the assertion's id.
    token_hash = models.BinaryField(max_length=32, editable=False)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["connection", "token_hash"], name="sso_consumed_once")]
        indexes = [models.Index(fields=["expires_at"], name="sso_consumed_expires")]

    def __str__(self) -> str:
        return f"consumed {self.pk}"


class ScimToken(models.Model):
    """The bearer token that lets a provider provision people over SCIM 2.0. Shown once, kept as a keyed hash."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="scim_tokens")
    name = models.CharField(_("name"), max_length=80, blank=True)
    secret_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    #: What pages show of it.
    prefix = models.CharField(max_length=24, editable=False)
    created_by = models.ForeignKey(settings.AUTH_USER_MODEL, null=True, on_delete=models.SET_NULL, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)

    def __str__(self) -> str:
        return self.name or self.prefix


class ScimUser(models.Model):
    """A person as the provider's directory keeps them. Inactive: no sign-in over this connection, no membership."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="scim_users")
    #: Empty while the address is at no domain that the organization has proven: kept, and opens nothing.
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.CASCADE, related_name="scim_users"
    )
    user_name = models.CharField(max_length=254)
    external_id = models.CharField(max_length=255, blank=True)
    active = models.BooleanField(default=True)
    #: The other attributes of the resource as the provider sent them (name, emails, …), to be given back.
    attributes = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint("connection", Lower("user_name"), name="sso_scim_user_name_once"),
            models.UniqueConstraint(fields=["connection", "user"], name="sso_scim_user_once"),
            models.UniqueConstraint(
                fields=["connection", "external_id"],
                condition=~Q(external_id=""),
                name="sso_scim_user_external_id_once",
            ),
        ]

    def __str__(self) -> str:
        return self.user_name


class ScimGroup(models.Model):
    """A group of the provider's directory. One that the connection's role map names gives its members that role."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    connection = models.ForeignKey(SsoConnection, on_delete=models.CASCADE, related_name="scim_groups")
    display_name = models.CharField(max_length=255)
    external_id = models.CharField(max_length=255, blank=True)
    members = models.ManyToManyField(ScimUser, related_name="groups", blank=True)
    attributes = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=clock.now, editable=False)
    updated_at = models.DateTimeField(default=clock.now)

    class Meta:
        constraints = [
            models.UniqueConstraint("connection", Lower("display_name"), name="sso_scim_group_name_once"),
            models.UniqueConstraint(
                fields=["connection", "external_id"],
                condition=~Q(external_id=""),
                name="sso_scim_group_external_id_once",
            ),
        ]

    def __str__(self) -> str:
        return self.display_name
