"""Files of workspaces, and the row that is locked while their limits are looked at."""

from __future__ import annotations

from django.db import models
from django.db.models import F, Q
from django.utils.translation import gettext_lazy as _

from core import clock, ids
from orgs.models import Workspace

FILENAME_LENGTH = 200


class Kind(models.TextChoices):
    """What a file is for. Images, videos and audio are what their bytes say; the others may be anything."""

    IMAGE = "image", _("Image")
    VIDEO = "video", _("Video")
    AUDIO = "audio", _("Audio")
    DATASET = "dataset", _("Data set")
    FILE = "file", _("File")


class Source(models.TextChoices):
    """Who brought it."""

    UPLOAD = "upload", _("Upload")
    RESULT = "result", _("Result")


class StorageAccount(models.Model):
    """A workspace's shelf. Whoever adds a file locks this row, so that two can't both take the last place."""

    workspace = models.OneToOneField(
        Workspace, primary_key=True, on_delete=models.PROTECT, related_name="storage_account"
    )
    #: Limits of this workspace alone; NULL: the installation's.
    most_bytes = models.BigIntegerField(_("most bytes"), null=True, blank=True)
    most_objects = models.PositiveIntegerField(_("most files"), null=True, blank=True)

    class Meta:
        verbose_name = _("storage of a workspace")
        verbose_name_plural = _("storage of workspaces")

    def __str__(self) -> str:
        return str(self.workspace_id)


class StoredObject(models.Model):
    """One file. The row is the truth: bytes without a row are swept away, a row comes before its bytes."""

    id = models.UUIDField(primary_key=True, default=ids.uuid7, editable=False)
    workspace = models.ForeignKey(Workspace, on_delete=models.PROTECT, related_name="stored_objects")
    kind = models.CharField(_("kind"), max_length=16, choices=Kind.choices)
    source = models.CharField(_("source"), max_length=16, choices=Source.choices)
    filename = models.CharField(_("file name"), max_length=FILENAME_LENGTH)
    #: What the bytes are, never what somebody said they were.
    content_type = models.CharField(_("type"), max_length=64)
    size_bytes = models.BigIntegerField(_("size, bytes"))
    sha256 = models.CharField(max_length=64)
    #: The name under which the bytes lie in the storage.
    place = models.CharField(max_length=64, unique=True, editable=False)
    key_id = models.UUIDField(null=True)
    user_id = models.UUIDField(null=True)
    job_id = models.UUIDField(null=True)
    #: The form that it was uploaded by, so that the same form sent twice is one file.
    form_token = models.UUIDField(null=True, unique=True, editable=False)
    created_at = models.DateTimeField(_("created"), default=clock.now, editable=False)
    #: NULL while the bytes are under way: such a file is not there yet for anybody.
    stored_at = models.DateTimeField(null=True, editable=False)
    #: When it is swept away, NULL: never.
    expires_at = models.DateTimeField(_("kept until"), null=True, blank=True)
    #: Since when the sweep has not found the bytes.
    missing_since = models.DateTimeField(null=True, editable=False)

    class Meta:
        verbose_name = _("stored file")
        verbose_name_plural = _("stored files")
        indexes = [
            models.Index(fields=["workspace", "-id"], name="storage_of_workspace"),
            models.Index(fields=["workspace", "kind", "-id"], name="storage_of_kind"),
            models.Index(fields=["job_id"], name="storage_of_job", condition=Q(job_id__isnull=False)),
            models.Index(fields=["expires_at"], name="storage_expiry", condition=Q(expires_at__isnull=False)),
            models.Index(fields=["created_at"], name="storage_under_way", condition=Q(stored_at__isnull=True)),
        ]
        constraints = [
            models.CheckConstraint(name="storage_size_not_negative", condition=Q(size_bytes__gte=0)),
            models.CheckConstraint(name="storage_kind_known", condition=Q(kind__in=[k.value for k in Kind])),
            models.CheckConstraint(
                name="storage_expires_later", condition=Q(expires_at__isnull=True) | Q(expires_at__gt=F("created_at"))
            ),
        ]

    def __str__(self) -> str:
        return self.filename
