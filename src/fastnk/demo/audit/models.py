# mypy: disallow-subclassing-any=False
"""Who did what, and when."""

from __future__ import annotations

from uuid import uuid4

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import models


class AuditTrail(models.Model):
    uuid = models.UUIDField(default=uuid4, unique=True)
    timestamp = models.DateTimeField()
    action = models.CharField(max_length=30)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    content_type = models.ForeignKey(ContentType, models.PROTECT)
    # The number that people know it by: an audit trail has to outlive the ids of its objects.
    object_number = models.CharField(max_length=50)
    changes = models.JSONField(default=dict)

    def natural_key(self) -> tuple[str, str]:
        return (str(self.uuid), self.timestamp.isoformat())


class LoginAudit(models.Model):
    """Has no natural key: nothing identifies a log-in, and nothing refers to one."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True)
    username = models.CharField(max_length=150)
    address = models.GenericIPAddressField()
    timestamp = models.DateTimeField()
    succeeded = models.BooleanField()
