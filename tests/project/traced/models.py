"""Natural keys in every form that can be traced; those that cannot are in `test_introspect.py`."""

from __future__ import annotations

import uuid
from typing import Any, ClassVar

import django
from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

Key = tuple[Any, ...]


class Role(models.Model):
    """One field."""

    name = models.CharField(max_length=50, unique=True)
    inherits_from = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")

    def natural_key(self) -> Key:
        return (self.name,)


class State(models.Model):
    """The pk is the natural key, and what a `to_field` names."""

    code = models.CharField(max_length=20, primary_key=True)
    slug = models.SlugField(unique=True)

    def natural_key(self) -> Key:
        return (self.pk,)


class Document(models.Model):
    """Every kind of relation, none of them in the key."""

    document_number = models.CharField(max_length=50, unique=True)
    uuid = models.UUIDField(default=uuid.uuid4)
    state = models.ForeignKey(State, models.PROTECT, to_field="code", related_name="+")
    previous_state = models.ForeignKey(
        State, models.PROTECT, to_field="slug", null=True, related_name="+"
    )
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, related_name="+")
    supersedes = models.ForeignKey("self", models.SET_NULL, null=True, related_name="+")
    roles = models.ManyToManyField(Role, related_name="+")
    readers = models.ManyToManyField(Role, through="Reading", related_name="+")
    cached_by = models.ForeignKey(Role, models.CASCADE, serialize=False, related_name="+")

    def natural_key(self) -> Key:
        return (self.document_number,)

    @property
    def number_and_author(self) -> Key:
        return self.natural_key() + self.author.natural_key()


class Reading(models.Model):
    """An explicit through model: a list, parts added, another model's property."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="+")
    role = models.ForeignKey(Role, models.CASCADE, related_name="+")

    def natural_key(self) -> list[Any]:
        return list(self.document.number_and_author + self.role.natural_key())


class Version(models.Model):
    """A part of another key, and numbers."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="+")
    version_major = models.PositiveIntegerField()
    version_minor = models.PositiveIntegerField()

    def natural_key(self) -> Key:
        return (self.document.natural_key()[0], self.version_major, self.version_minor)


class Dependency(models.Model):
    """Two relations to one model; unpacked, sliced, and put together by star."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="+")
    depends_on = models.ForeignKey(Document, models.CASCADE, related_name="+")
    dependency_type = models.CharField(max_length=20)

    def natural_key(self) -> Key:
        (first,) = self.document.natural_key()
        second = self.depends_on.natural_key()
        assert len(second) == 1
        return (first, *second[:1], self.dependency_type)


class Comment(models.Model):
    """The text of a number."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="+")

    def natural_key(self) -> Key:
        return (self.document.natural_key()[0], str(self.id))


class Workflow(models.Model):
    """A relation as pk, spelled as attributes."""

    document = models.OneToOneField(
        Document, models.CASCADE, primary_key=True, related_name="workflow"
    )
    workflow_type = models.CharField(max_length=20)

    def natural_key(self) -> Key:
        return (self.document.document_number, self.workflow_type)


class Transition(models.Model):
    """A key two relations away, by index."""

    workflow = models.ForeignKey(Workflow, models.CASCADE, related_name="+")

    def natural_key(self) -> Key:
        return (
            self.workflow.natural_key()[0],
            self.workflow.natural_key()[1],
            str(self.id),
        )


class Raw(models.Model):
    """Ids of other rows as they stand, and the pk by its alias."""

    document = models.ForeignKey(Document, models.CASCADE, related_name="+")
    workflow = models.ForeignKey(Workflow, models.CASCADE, related_name="+")
    state = models.ForeignKey(State, models.PROTECT, to_field="slug", related_name="+")

    def natural_key(self) -> Key:
        return (self.pk, self.document_id, self.workflow_id, self.state_id)


class AuditTrail(models.Model):
    """Transforms, and a generic relation."""

    uuid = models.UUIDField(default=uuid.uuid4)
    timestamp = models.DateTimeField()
    day = models.DateField()
    time = models.TimeField()
    content_type = models.ForeignKey(ContentType, models.CASCADE, null=True, related_name="+")
    object_id = models.PositiveIntegerField(null=True)
    target = GenericForeignKey("content_type", "object_id")

    def natural_key(self) -> Key:
        return (
            str(self.uuid),
            self.timestamp.isoformat(),
            str(self.day.isoformat()),
            self.time.isoformat(),
        )


class Texts(models.Model):
    """Everything whose `str()` is what a backup holds."""

    text = models.TextField()
    flag = models.BooleanField()
    price = models.DecimalField(max_digits=8, decimal_places=2)
    day = models.DateField()
    address = models.GenericIPAddressField()
    email = models.EmailField()

    def natural_key(self) -> Key:
        fields = (self.text, self.flag, self.price, self.day, self.address, self.email)
        return tuple(str(value) for value in fields)


class Nested(models.Model):
    """A key inside a key, and one that a nullable relation leads to."""

    role = models.ForeignKey(Role, models.CASCADE, related_name="+")
    document = models.ForeignKey(Document, models.CASCADE, null=True, related_name="+")
    note = models.TextField(null=True)

    def natural_key(self) -> Key:
        number = self.document.document_number if self.document is not None else None
        author = self.document and self.document.author.username
        return (self.role.natural_key(), [number, [author]], str(self.note))


class Place(models.Model):
    """The parent of a model with a table of its own."""

    name = models.CharField(max_length=50)
    city = models.CharField(max_length=50, null=True)
    role = models.ForeignKey(Role, models.CASCADE, related_name="+")
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    object_id = models.PositiveIntegerField()
    target = GenericForeignKey("content_type", "object_id")

    def natural_key(self) -> Key:
        return (self.name, self.city)


class Restaurant(Place):
    """Inherited fields, an inherited relation, the pk, and `super()`."""

    stars = models.IntegerField()

    def natural_key(self) -> Key:
        return (*super().natural_key(), self.role.name, self.stars, self.id, self.pk)


class Bistro(Restaurant):
    """A grandchild with its grandparent's method."""


class Dinner(models.Model):
    """Refers to a child, in whose parent the key stands; to a proxy and to a through model."""

    place = models.ForeignKey(Bistro, models.CASCADE, related_name="+")
    writer = models.ForeignKey("Writer", models.CASCADE, related_name="+")
    membership = models.ForeignKey(Document.roles.through, models.CASCADE, related_name="+")

    def natural_key(self) -> Key:
        return (self.place.name, self.place_id, self.writer.natural_key()[0])


class Account(AbstractBaseUser):
    """The key of Django's own base class, found by the name of the field."""

    email = models.EmailField(unique=True)
    USERNAME_FIELD = "email"


class Writer(Account):
    """A proxy that spells its model's key in its own way: without records, not in a schema."""

    class Meta:
        proxy = True

    def natural_key(self) -> Key:
        return (self.email,)


if django.VERSION >= (5, 2):

    class Seat(models.Model):
        """A composite pk."""

        pk = models.CompositePrimaryKey("row", "number")
        row = models.CharField(max_length=2)
        number = models.IntegerField()

        def natural_key(self) -> Key:
            return self.pk


class Sample(models.Model):
    """Without a natural key; the tests give one to proxies of it."""

    code = models.CharField(max_length=20)
    maybe = models.CharField(max_length=20, null=True)
    number = models.IntegerField(choices=[(1, "one"), (2, "two")])
    ratio = models.FloatField()
    when = models.DateTimeField()
    time = models.TimeField()
    lasts = models.DurationField()
    facts = models.JSONField()
    blob = models.BinaryField()
    secret = models.CharField(max_length=20, serialize=False)
    parent = models.ForeignKey("self", models.CASCADE, related_name="children")
    step_parent = models.ForeignKey("self", models.CASCADE, null=True, related_name="+")
    role = models.ForeignKey(Role, models.CASCADE, related_name="+")
    hidden = models.ForeignKey(Role, models.CASCADE, serialize=False, related_name="+")
    content_type = models.ForeignKey(ContentType, models.CASCADE, related_name="+")
    target = GenericForeignKey("content_type", "number")
    roles = models.ManyToManyField(Role, related_name="+")

    KINDS: ClassVar = ("a", "b")
    natural_key = None
