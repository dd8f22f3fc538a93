"""The one tenant object. Keys, wallets, log rows and all else belong to a workspace, personal or organization."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from core import clock, ids
from orgs.permissions import Role


class Workspace(models.Model):
    """Owns keys, a wallet and a log. A personal one belongs to exactly one user and is born with that user."""

    class Kind(models.TextChoices):
        PERSONAL = "personal", _("Personal")
        ORGANIZATION = "organization", _("Organization")

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    name = models.CharField(_("name"), max_length=120)
    slug = models.SlugField(_("slug"), max_length=64, unique=True)
    personal_user = models.OneToOneField(
        settings.AUTH_USER_MODEL, null=True, blank=True, on_delete=models.PROTECT, related_name="personal_workspace"
    )
    #: A suspended or deleted workspace keeps its ledger and log; its keys are refused at admission.
    active = models.BooleanField(_("active"), default=True)
    #: Members without a second factor see nothing of the organization until they have set one up.
    require_second_factor = models.BooleanField(_("members need a second factor"), default=False)
    #: The form that asked for this organization, so that the same form sent twice makes one.
    form_token = models.UUIDField(null=True, unique=True, editable=False)
    #: Set once and for good: a deleted organization can't be resumed, its slug is not given away again.
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("workspace")
        verbose_name_plural = _("workspaces")
        constraints = [
            models.CheckConstraint(
                name="orgs_workspace_personal_has_its_user",
                condition=Q(kind="personal", personal_user__isnull=False)
                | Q(kind="organization", personal_user__isnull=True),
            ),
            models.CheckConstraint(
                name="orgs_workspace_deleted_is_inactive",
                condition=Q(deleted_at__isnull=True) | Q(active=False, kind="organization"),
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def save(self, *args: Any, **kwargs: Any) -> None:
        """In one transaction with what hears of it: a workspace never stands without its wallet."""
        with transaction.atomic():
            super().save(*args, **kwargs)


class Membership(models.Model):
    """One person's role in one workspace."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(_("role"), max_length=16, choices=Role.choices)
    created_at = models.DateTimeField(_("joined"), default=clock.now, editable=False)

    class Meta:
        verbose_name = _("membership")
        verbose_name_plural = _("memberships")
        constraints = [
            models.UniqueConstraint(fields=["workspace", "user"], name="orgs_membership_once"),
            models.CheckConstraint(name="orgs_membership_role_known", condition=Q(role__in=[r.value for r in Role])),
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.role} in {self.workspace_id}"


class Invitation(models.Model):
    """A mail that lets whoever owns its address become a member, once, for a while."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="invitations")
    #: Lower case, as accounts keep theirs.
    email = models.EmailField(_("e-mail address"), max_length=254)
    role = models.CharField(_("role"), max_length=16, choices=Role.choices)
    #: Keyed hash of the token in the newest mail; sending again makes older links worthless.
    token_hash = models.BinaryField(max_length=32, unique=True, editable=False)
    invited_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+")
    created_at = models.DateTimeField(default=clock.now, editable=False)
    sent_at = models.DateTimeField(default=clock.now, editable=False)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, editable=False)
    accepted_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, null=True, on_delete=models.PROTECT, related_name="+", editable=False
    )
    revoked_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("invitation")
        verbose_name_plural = _("invitations")
        constraints = [
            models.UniqueConstraint(
                fields=["workspace", "email"],
                name="orgs_invitation_one_open",
                condition=Q(accepted_at__isnull=True, revoked_at__isnull=True),
            ),
            models.CheckConstraint(
                name="orgs_invitation_never_owner",
                condition=Q(role__in=[role.value for role in Role if role != Role.OWNER]),
            ),
            models.CheckConstraint(
                name="orgs_invitation_accepted_or_revoked",
                condition=Q(accepted_at__isnull=True) | Q(revoked_at__isnull=True),
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email} as {self.role}"

    @property
    def expired(self) -> bool:
        """Whether its time is over; sending it again gives it a new one."""
        return self.expires_at <= clock.now()
