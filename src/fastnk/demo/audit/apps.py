# mypy: disallow-subclassing-any=False
from django.apps import AppConfig


class AuditConfig(AppConfig):
    name = "fastnk.demo.audit"
    label = "audit"
