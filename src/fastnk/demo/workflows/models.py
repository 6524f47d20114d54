# mypy: disallow-subclassing-any=False
"""How a document comes into force, step by step."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from fastnk.demo.documents.models import Document


class DocumentState(models.Model):
    code = models.CharField(max_length=30, primary_key=True)
    name = models.CharField(max_length=100)
    is_final = models.BooleanField(default=False)

    def natural_key(self) -> tuple[str]:
        return (self.code,)


class DocumentWorkflow(models.Model):
    document = models.ForeignKey(Document, models.CASCADE, related_name="workflows")
    workflow_type = models.CharField(max_length=30)
    current_state = models.ForeignKey(DocumentState, models.PROTECT, to_field="code")
    initiated_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, related_name="initiated"
    )
    reviewers = models.ManyToManyField(settings.AUTH_USER_MODEL, related_name="reviews")

    class Meta:
        unique_together = ("document", "workflow_type")

    def natural_key(self) -> tuple[str, str]:
        return (self.document.natural_key()[0], self.workflow_type)


class DocumentTransition(models.Model):
    workflow = models.ForeignKey(DocumentWorkflow, models.CASCADE, related_name="transitions")
    number = models.PositiveSmallIntegerField()
    from_state = models.ForeignKey(
        DocumentState, models.PROTECT, to_field="code", null=True, related_name="+"
    )
    to_state = models.ForeignKey(DocumentState, models.PROTECT, to_field="code", related_name="+")
    performed_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT)
    performed_at = models.DateTimeField()

    class Meta:
        unique_together = ("workflow", "number")

    def natural_key(self) -> tuple[str, str, int]:
        return (*self.workflow.natural_key(), self.number)
