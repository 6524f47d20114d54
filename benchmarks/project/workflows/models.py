"""States, which are their own keys, and the way of documents through them."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from benchmarks.project.documents.models import Document
from benchmarks.project.keys import by_natural_key
from benchmarks.project.users.models import User


class DocumentState(models.Model):
    code = models.CharField(max_length=50, primary_key=True)
    name = models.CharField(max_length=100)
    description = models.TextField()
    is_initial = models.BooleanField(default=False)
    is_final = models.BooleanField(default=False)

    objects = by_natural_key("code")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code,)


class DocumentWorkflow(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    document = models.ForeignKey(Document, models.CASCADE)
    workflow_type = models.CharField(max_length=30)
    current_state = models.ForeignKey(DocumentState, models.PROTECT, to_field="code")
    initiated_by = models.ForeignKey(User, models.PROTECT, related_name="initiated")
    current_assignee = models.ForeignKey(User, models.SET_NULL, null=True, related_name="assigned")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    due_date = models.DateField(null=True)
    workflow_data = models.JSONField(default=dict)
    up_version_reason = models.TextField()
    termination_reason = models.TextField()
    is_terminated = models.BooleanField(default=False)
    last_approved_state = models.CharField(max_length=50)

    objects = by_natural_key("document__document_number", "workflow_type")

    class Meta:
        unique_together = ("document", "workflow_type")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.document.document_number, self.workflow_type)


class DocumentTransition(models.Model):
    """Its own id is in its natural key, so `loaddata` must take the id that is in the backup."""

    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    workflow = models.ForeignKey(DocumentWorkflow, models.CASCADE)
    from_state = models.ForeignKey(DocumentState, models.PROTECT, related_name="+")
    to_state = models.ForeignKey(DocumentState, models.PROTECT, related_name="+")
    transitioned_by = models.ForeignKey(User, models.PROTECT)
    transitioned_at = models.DateTimeField(auto_now_add=True)
    comment = models.TextField()
    transition_data = models.JSONField(default=dict)

    def natural_key(self) -> tuple[Any, ...]:
        return (*self.workflow.natural_key(), str(self.id))
