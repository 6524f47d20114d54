"""Settings of the project; the database is the one that the environment names."""

from __future__ import annotations

import json
import os

SECRET_KEY = "not a secret"
USE_TZ = True
TIME_ZONE = "UTC"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "benchmarks.project.django_celery_results",
    "benchmarks.project.users",
    "benchmarks.project.documents",
    "benchmarks.project.workflows",
    "benchmarks.project.audit",
]
DATABASES = {"default": json.loads(os.environ["BENCHMARK_DATABASE"])}
# Every table by syncdb: the project's own apps have no migrations and refer to this one.
MIGRATION_MODULES = {"contenttypes": None}
