"""The models as the last migration leaves them."""

from __future__ import annotations

from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models

Key = tuple[Any, ...]


class Shelf(models.Model):
    """As it always was."""

    code = models.CharField(max_length=9, unique=True)

    def natural_key(self) -> Key:
        return (self.code,)


class Paper(models.Model):
    """Its title was once its name, and it stood on no shelf."""

    title = models.CharField(max_length=50, unique=True)
    shelf = models.ForeignKey(Shelf, models.PROTECT, null=True)
    copies_on = models.ManyToManyField(Shelf, related_name="+")

    def natural_key(self) -> Key:
        return (self.title,)


class Book(Paper):
    """A table of its own."""

    isbn = models.CharField(max_length=13, unique=True)

    def natural_key(self) -> Key:
        return (self.isbn,)


class Chapter(models.Model):
    """Its key goes through a field that had another name; its number was once a text."""

    paper = models.ForeignKey(Paper, models.CASCADE)
    number = models.IntegerField()

    def natural_key(self) -> Key:
        return (*self.paper.natural_key(), self.number)


class Place(models.Model):
    """Its key goes through a relation that came later to the paper."""

    paper = models.OneToOneField(Paper, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.paper.shelf.code,)


class Stamp(models.Model):
    """Not there from the start."""

    code = models.CharField(max_length=9, unique=True)

    def natural_key(self) -> Key:
        return (self.code,)


class Label(models.Model):
    """Its key goes through a field that was a text, then a relation to another model."""

    holder = models.ForeignKey(Shelf, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.holder.code,)


class Note(models.Model):
    """No key, and one of the two fields of its generic relation came later."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.PositiveIntegerField()
    about = GenericForeignKey()
