"""Answers kept for callers who send ``Idempotency-Key``: the stored answer again, never a second charge."""

from __future__ import annotations

from django.db import models

from core import clock


class StoredAnswer(models.Model):
    """One (scope, key) pair. The row is inserted with the first call's hold and completed with its settlement."""

    id = models.UUIDField(primary_key=True, editable=False)
    #: The workspace whose callers share this key.
    scope_id = models.UUIDField()
    key_hash = models.BinaryField(max_length=32)
    #: SHA-256 over method, path and body: the same key with another request is a conflict.
    request_hash = models.BinaryField(max_length=32)
    request_id = models.UUIDField()
    status = models.PositiveSmallIntegerField(null=True)
    content_type = models.CharField(max_length=80, blank=True)
    #: The sealed body (it may hold an answer's text); NULL while running, and for streams, which are not replayed.
    sealed_body = models.BinaryField(null=True)
    is_stream = models.BooleanField(default=False)
    created_at = models.DateTimeField(default=clock.now)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["scope_id", "key_hash"], name="idempotency_once")]
        indexes = [models.Index(fields=["expires_at"], name="idempotency_expiry")]

    def __str__(self) -> str:
        return str(self.request_id)
