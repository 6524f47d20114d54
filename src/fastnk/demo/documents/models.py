# mypy: disallow-subclassing-any=False
"""The documents, what replaces what and what depends on what."""

from __future__ import annotations

from django.conf import settings
from django.db import models


class DocumentType(models.Model):
    code = models.CharField(max_length=20, unique=True)
    name = models.CharField(max_length=100)
    review_months = models.PositiveSmallIntegerField(default=24)

    def natural_key(self) -> tuple[str]:
        return (self.code,)


class Document(models.Model):
    document_number = models.CharField(max_length=50, unique=True)
    title = models.CharField(max_length=200)
    document_type = models.ForeignKey(DocumentType, models.PROTECT, to_field="code")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="authored")
    approver = models.ForeignKey(
        settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="approved"
    )
    supersedes = models.OneToOneField(
        "self", models.PROTECT, null=True, related_name="superseded_by"
    )
    created_at = models.DateTimeField()
    effective_date = models.DateField(null=True)
    details = models.JSONField(default=dict)

    def natural_key(self) -> tuple[str]:
        return (self.document_number,)


class DocumentDependency(models.Model):
    document = models.ForeignKey(Document, models.CASCADE, related_name="dependencies")
    depends_on = models.ForeignKey(Document, models.CASCADE, related_name="dependents")
    dependency_type = models.CharField(max_length=20)

    class Meta:
        unique_together = ("document", "depends_on", "dependency_type")

    def natural_key(self) -> tuple[str, str, str]:
        return (
            self.document.natural_key()[0],
            self.depends_on.natural_key()[0],
            self.dependency_type,
        )


class DocumentComment(models.Model):
    document = models.ForeignKey(Document, models.CASCADE, related_name="comments")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT)
    text = models.TextField()
    created_at = models.DateTimeField()

    def natural_key(self) -> tuple[str, str]:
        return (self.document.natural_key()[0], str(self.id))
