"""Results of background tasks: no natural key, much text."""

from __future__ import annotations

from django.db import models


class TaskResult(models.Model):
    task_id = models.CharField(max_length=255, unique=True)
    periodic_task_name = models.CharField(max_length=255, null=True)
    task_name = models.CharField(max_length=255, null=True, db_index=True)
    task_args = models.TextField(null=True)
    task_kwargs = models.TextField(null=True)
    status = models.CharField(max_length=50, db_index=True)
    worker = models.CharField(max_length=100, null=True, db_index=True)
    content_type = models.CharField(max_length=128)
    content_encoding = models.CharField(max_length=64)
    result = models.TextField(null=True)
    date_created = models.DateTimeField(auto_now_add=True, db_index=True)
    date_done = models.DateTimeField(auto_now=True, db_index=True)
    traceback = models.TextField(null=True)
    meta = models.TextField(null=True)
