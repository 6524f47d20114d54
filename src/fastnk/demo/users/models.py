# mypy: disallow-subclassing-any=False, warn-return-any=False
"""Who works with the documents."""

from __future__ import annotations

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class User(AbstractBaseUser):
    username = models.CharField(max_length=150, unique=True)
    full_name = models.CharField(max_length=200)
    email = models.EmailField(blank=True)
    is_active = models.BooleanField(default=True)
    is_superuser = models.BooleanField(default=False)
    joined_at = models.DateTimeField()

    objects = models.Manager()

    USERNAME_FIELD = "username"

    class Meta:
        ordering = ("username",)

    def natural_key(self) -> tuple[str]:
        return (self.username,)


class Role(models.Model):
    name = models.CharField(max_length=100, unique=True)
    description = models.TextField(blank=True)

    def natural_key(self) -> tuple[str]:
        return (self.name,)


class UserRole(models.Model):
    user = models.ForeignKey(User, models.CASCADE, related_name="user_roles")
    role = models.ForeignKey(Role, models.CASCADE, related_name="user_roles")
    assigned_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    assigned_at = models.DateTimeField()

    class Meta:
        unique_together = ("user", "role")

    def natural_key(self) -> tuple[str, ...]:
        return self.user.natural_key() + self.role.natural_key()
