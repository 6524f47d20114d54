"""Fields that PostgreSQL alone has. Their app is installed for single tests only."""

from __future__ import annotations

from typing import Any

from django.contrib.postgres.fields import ArrayField, DateTimeRangeField, IntegerRangeField
from django.db import models

Key = tuple[Any, ...]


class Base(models.Model):
    class Meta:
        abstract = True
        default_permissions = ()


class Parcel(Base):
    """Django writes an array as a text that holds JSON."""

    code = models.CharField(max_length=40, unique=True)
    follows = models.ForeignKey("self", models.CASCADE, null=True)
    counts = ArrayField(models.IntegerField(), null=True)
    words = ArrayField(models.TextField(), default=list)
    grid = ArrayField(ArrayField(models.BigIntegerField(null=True)), null=True)
    pair = ArrayField(models.FloatField(), size=2, null=True)
    days = ArrayField(models.DateField(), null=True)
    moments = ArrayField(models.DateTimeField(), null=True)
    prices = ArrayField(models.DecimalField(max_digits=9, decimal_places=2), null=True)
    tokens = ArrayField(models.UUIDField(), null=True)
    facts = ArrayField(models.JSONField(), null=True)
    span = IntegerRangeField(null=True)
    open = DateTimeRangeField(null=True)

    def natural_key(self) -> Key:
        return (self.code,)


class Pallet(Base):
    """Without a natural key."""

    parcels = models.ManyToManyField(Parcel)
    top = models.ForeignKey(Parcel, models.CASCADE)
    places = ArrayField(models.IntegerField())


class Route(Base):
    """An array in the key: a list there, a text among the fields."""

    name = models.CharField(max_length=40)
    stops = ArrayField(models.TextField())
    first = models.ForeignKey(Parcel, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.name, self.stops)


class Tour(Base):
    """Refers to such a key, and has it in its own."""

    route = models.ForeignKey(Route, models.CASCADE)
    number = models.IntegerField()

    def natural_key(self) -> Key:
        return (*self.route.natural_key(), self.number)


class Head(Base):
    """One item of an array in the key."""

    stops = ArrayField(models.TextField())

    def natural_key(self) -> Key:
        return (self.stops[0],)


class Chain(Base):
    """All items of an array as the parts of the key."""

    stops = ArrayField(models.TextField())

    def natural_key(self) -> Key:
        return tuple(self.stops)


class Span(Base):
    """A range in the key."""

    span = IntegerRangeField()

    def natural_key(self) -> Key:
        return (self.span,)
