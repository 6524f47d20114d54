# mypy: disallow-subclassing-any=False
from django.apps import AppConfig


class UsersConfig(AppConfig):
    name = "fastnk.demo.users"
    label = "users"
