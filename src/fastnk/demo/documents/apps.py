# mypy: disallow-subclassing-any=False
from django.apps import AppConfig


class DocumentsConfig(AppConfig):
    name = "fastnk.demo.documents"
    label = "documents"
