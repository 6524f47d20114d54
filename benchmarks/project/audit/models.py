"""The audit trail: half of all rows, and nothing refers to it."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import models

from benchmarks.project.keys import by_natural_key
from benchmarks.project.users.models import User


class AuditTrail(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    timestamp = models.DateTimeField(auto_now_add=True, db_index=True)
    action = models.CharField(max_length=50, db_index=True)
    severity = models.CharField(max_length=10)
    user = models.ForeignKey(User, models.PROTECT, null=True)
    user_display_name = models.CharField(max_length=200)
    session_id = models.CharField(max_length=40, null=True)
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.TextField()
    content_type = models.ForeignKey(ContentType, models.PROTECT, null=True)
    object_id = models.CharField(max_length=50, null=True)
    object_representation = models.CharField(max_length=500)
    field_changes = models.JSONField(default=dict)
    old_values = models.JSONField(default=dict)
    new_values = models.JSONField(default=dict)
    description = models.TextField()
    module = models.CharField(max_length=10)
    request_path = models.CharField(max_length=500)
    request_method = models.CharField(max_length=10)
    checksum = models.CharField(max_length=64)
    is_tampered = models.BooleanField(default=False)
    verification_status = models.CharField(max_length=20)
    metadata = models.JSONField(default=dict)

    objects = by_natural_key("uuid", "timestamp")

    def natural_key(self) -> tuple[Any, ...]:
        return (str(self.uuid), self.timestamp.isoformat())
