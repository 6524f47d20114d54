"""Documents, their versions and who looked at them."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from benchmarks.project.keys import by_natural_key
from benchmarks.project.users.models import User


class DocumentType(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    name = models.CharField(max_length=100)
    code = models.CharField(max_length=20, unique=True)
    description = models.TextField()
    approval_required = models.BooleanField(default=True)
    retention_years = models.PositiveIntegerField(default=5)
    numbering_format = models.CharField(max_length=100)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True)
    metadata = models.JSONField(default=dict)

    objects = by_natural_key("code")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code,)


class Document(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    document_number = models.CharField(max_length=50, unique=True)
    title = models.CharField(max_length=200)
    description = models.TextField()
    keywords = models.TextField()
    version_major = models.PositiveIntegerField(default=1)
    version_minor = models.PositiveIntegerField(default=0)
    document_type = models.ForeignKey(DocumentType, models.PROTECT)
    status = models.CharField(max_length=30, db_index=True)
    priority = models.CharField(max_length=10)
    author = models.ForeignKey(User, models.PROTECT, related_name="authored")
    approver = models.ForeignKey(User, models.SET_NULL, null=True, related_name="approved")
    file_name = models.CharField(max_length=255)
    file_path = models.CharField(max_length=500)
    file_size = models.BigIntegerField(null=True)
    file_checksum = models.CharField(max_length=64)
    mime_type = models.CharField(max_length=100)
    is_encrypted = models.BooleanField(default=False)
    encryption_metadata = models.JSONField(default=dict)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    approval_date = models.DateField(null=True)
    effective_date = models.DateField(null=True)
    review_period_months = models.PositiveIntegerField(default=24)
    obsolescence_reason = models.TextField()
    supersedes = models.ForeignKey("self", models.PROTECT, null=True)
    is_active = models.BooleanField(default=True)
    is_controlled = models.BooleanField(default=True)
    search_vector = models.TextField()
    metadata = models.JSONField(default=dict)
    reviewers = models.ManyToManyField(User, related_name="reviews")

    objects = by_natural_key("document_number")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.document_number,)


class DocumentVersion(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    document = models.ForeignKey(Document, models.CASCADE)
    version_major = models.PositiveIntegerField()
    version_minor = models.PositiveIntegerField()
    version_comment = models.TextField()
    file_name = models.CharField(max_length=255)
    file_size = models.BigIntegerField(null=True)
    file_checksum = models.CharField(max_length=64)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, models.PROTECT)
    status = models.CharField(max_length=30)
    change_summary = models.TextField()
    reason_for_change = models.TextField()
    metadata = models.JSONField(default=dict)

    objects = by_natural_key("document__document_number", "version_major", "version_minor")

    class Meta:
        unique_together = ("document", "version_major", "version_minor")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.document.document_number, self.version_major, self.version_minor)


class DocumentAccessLog(models.Model):
    """No natural key."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    document = models.ForeignKey(Document, models.CASCADE)
    user = models.ForeignKey(User, models.PROTECT)
    access_type = models.CharField(max_length=20)
    access_timestamp = models.DateTimeField(auto_now_add=True, db_index=True)
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.TextField()
    session_id = models.CharField(max_length=40, null=True)
    success = models.BooleanField(default=True)
    failure_reason = models.TextField()
    document_version = models.CharField(max_length=20)
    file_downloaded = models.BooleanField(default=False)
    access_duration = models.DurationField(null=True)
    metadata = models.JSONField(default=dict)
