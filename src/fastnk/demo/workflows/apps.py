# mypy: disallow-subclassing-any=False
from django.apps import AppConfig


class WorkflowsConfig(AppConfig):
    name = "fastnk.demo.workflows"
    label = "workflows"
