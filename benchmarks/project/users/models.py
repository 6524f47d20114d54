"""Users in a tree, roles in another, and who has which."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from benchmarks.project.keys import by_natural_key


class User(models.Model):
    password = models.CharField(max_length=128)
    last_login = models.DateTimeField(null=True)
    is_superuser = models.BooleanField(default=False)
    username = models.CharField(max_length=150, unique=True)
    first_name = models.CharField(max_length=150)
    last_name = models.CharField(max_length=150)
    email = models.EmailField()
    is_active = models.BooleanField(default=True)
    date_joined = models.DateTimeField()
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    employee_id = models.CharField(max_length=50, null=True)
    department = models.CharField(max_length=100)
    manager = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    mfa_enabled = models.BooleanField(default=False)
    failed_login_attempts = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    metadata = models.JSONField(default=dict)

    objects = by_natural_key("username")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.username,)


class Role(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    name = models.CharField(max_length=100, unique=True)
    description = models.TextField()
    module = models.CharField(max_length=10)
    inherits_from = models.ForeignKey("self", models.SET_NULL, null=True)
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)
    created_by = models.ForeignKey(User, models.SET_NULL, null=True)
    metadata = models.JSONField(default=dict)

    objects = by_natural_key("name")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.name,)


class UserRole(models.Model):
    uuid = models.UUIDField(default=uuid.uuid4, unique=True)
    user = models.ForeignKey(User, models.CASCADE)
    role = models.ForeignKey(Role, models.CASCADE)
    assigned_at = models.DateTimeField(auto_now_add=True)
    assigned_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+")
    expires_at = models.DateTimeField(null=True)
    is_active = models.BooleanField(default=True)
    assignment_reason = models.TextField()
    metadata = models.JSONField(default=dict)

    objects = by_natural_key("user__username", "role__name")

    class Meta:
        unique_together = ("user", "role")

    def natural_key(self) -> tuple[Any, ...]:
        return (self.user.username, self.role.name)
