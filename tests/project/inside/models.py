"""Ids inside JSON fields and text, and natural keys that only a method can tell.

The app is installed for single tests only.
"""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

Key = tuple[Any, ...]


class Base(models.Model):
    class Meta:
        abstract = True
        default_permissions = ()


class Author(Base):
    name = models.CharField(max_length=40, unique=True)
    number = models.IntegerField(unique=True, null=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Device(Base):
    """A UUID beside the key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    serial = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.serial,)


class Tag(Base):
    """Without a natural key."""

    name = models.CharField(max_length=40)


class Log(Base):
    """Ids everywhere."""

    code = models.CharField(max_length=40, unique=True)
    facts = models.JSONField(null=True)
    items = models.JSONField(default=list)
    text = models.TextField()
    which = models.CharField(max_length=80)
    number = models.BigIntegerField(null=True)


class Entry(Base):
    """Nothing but a pk and content, in which there is the pk of another entry."""

    facts = models.JSONField()


class Mark(Base):
    """An id in the natural key that no relation tells of."""

    text = models.CharField(max_length=40)
    author_id = models.BigIntegerField()

    def natural_key(self) -> Key:
        return (self.text, self.author_id)


class Book(Base):
    """A key that no parts can tell."""

    title = models.CharField(max_length=40)
    author = models.ForeignKey(Author, models.CASCADE, null=True)
    day = models.DateField()
    price = models.DecimalField(max_digits=8, decimal_places=2, default="1.50")
    follows = models.ForeignKey("self", models.CASCADE, null=True)

    def natural_key(self) -> Key:
        if self.title == "broken":
            raise LookupError("no key today")
        title = f"by number {self.pk}" if self.title == "numbered" else self.title.upper()
        return (title, [self.author.name if self.author else None, self.day], self.price)


class Paperback(Book):
    """A proxy with another key."""

    class Meta(Base.Meta):
        proxy = True

    def natural_key(self) -> Key:
        return (self.title,)


class Copy(Base):
    """Refers to such keys."""

    book = models.ForeignKey(Book, models.CASCADE)
    paperback = models.ForeignKey(Paperback, models.CASCADE, null=True, related_name="+")
    books = models.ManyToManyField(Book, related_name="+")
    papers = models.ManyToManyField(Paperback, related_name="+")
    facts = models.JSONField(default=dict)
