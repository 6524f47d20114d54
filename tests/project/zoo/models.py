"""A zoo with one of every kind of model and relation that a backup can hold."""

from __future__ import annotations

import uuid
from datetime import date
from typing import Any, ClassVar

import django
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Lower
from django.db.models.lookups import GreaterThan
from django.db.models.signals import post_save
from django.db.models.sql.compiler import SQLUpdateCompiler
from django.dispatch import receiver

Key = tuple[Any, ...]


def check(name: str, condition: Any) -> models.CheckConstraint:
    argument = "condition" if django.VERSION >= (5, 1) else "check"
    return models.CheckConstraint(name=name, **{argument: condition})


class Keeper(models.Model):
    """Times that Django would set itself; a nullable self reference; a receiver below."""

    name = models.CharField(max_length=50, unique=True)
    mentor = models.ForeignKey("self", models.SET_NULL, null=True)
    hired = models.DateField(null=True)
    joined = models.DateTimeField(auto_now_add=True)
    seen = models.DateTimeField(auto_now=True)

    def natural_key(self) -> Key:
        return (self.name,)


@receiver(post_save, sender=Keeper)
def welcome(sender: type[Keeper], instance: Keeper, **kwargs: Any) -> None:
    """Creates a row and, like most receivers, does not look at `raw`."""
    Memo.objects.create(text=f"welcome {instance.name}")


class Species(models.Model):
    """Referred to by its code, which is neither its pk nor its natural key."""

    code = models.CharField(max_length=10, unique=True)
    latin = models.CharField(max_length=50, unique=True)

    def natural_key(self) -> Key:
        return (self.latin,)


class Status(models.Model):
    """The pk is the natural key: Django's natural dump loses it."""

    code = models.CharField(max_length=20, primary_key=True)
    title = models.CharField(max_length=50)

    def natural_key(self) -> Key:
        return (self.code,)


class Enclosure(models.Model):
    """One half of a cycle of NOT NULL columns."""

    name = models.CharField(max_length=50, unique=True)
    contract = models.ForeignKey("Contract", models.PROTECT)

    def natural_key(self) -> Key:
        return (self.name,)


class Contract(models.Model):
    """The other half of the cycle."""

    number = models.IntegerField(unique=True)
    enclosure = models.ForeignKey(Enclosure, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.number,)


class Tag(models.Model):
    """No natural key, referred to by others."""

    label = models.CharField(max_length=50)


class Animal(models.Model):
    """A natural key through two foreign keys; every kind of relation; fields that need care."""

    species = models.ForeignKey(Species, models.PROTECT, to_field="code")
    enclosure = models.ForeignKey(Enclosure, models.PROTECT)
    name = models.CharField(max_length=50)
    status = models.ForeignKey(Status, models.PROTECT, null=True)
    keepers = models.ManyToManyField(Keeper)
    friends = models.ManyToManyField("self")
    tags = models.ManyToManyField(Tag)
    weight = models.DecimalField(max_digits=8, decimal_places=2, null=True)
    chart = models.JSONField(null=True)
    habits = models.JSONField(default=dict)
    born = models.DateField(null=True)
    nap = models.DurationField(null=True)
    photo = models.FileField(null=True)
    print = models.BinaryField(null=True)

    class Meta:
        unique_together: ClassVar = [("species", "enclosure", "name")]

    def natural_key(self) -> Key:
        return (*self.species.natural_key(), self.enclosure.natural_key()[0], self.name)


class Passport(models.Model):
    """A one-to-one relation beside the pk."""

    number = models.CharField(max_length=20, unique=True)
    animal = models.OneToOneField(Animal, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.number,)


class Diet(models.Model):
    """A one-to-one relation as pk, no natural key."""

    animal = models.OneToOneField(Animal, models.CASCADE, primary_key=True)
    food = models.CharField(max_length=50)


class Collar(models.Model):
    """A one-to-one relation as pk and as natural key: Django's natural dump loses it."""

    animal = models.OneToOneField(Animal, models.CASCADE, primary_key=True)
    colour = models.CharField(max_length=20)

    def natural_key(self) -> Key:
        return self.animal.natural_key()


class Memo(models.Model):
    """No natural key; a tree; refers to models of both kinds."""

    text = models.CharField(max_length=100)
    parent = models.ForeignKey("self", models.CASCADE, null=True)
    keeper = models.ForeignKey(Keeper, models.CASCADE, null=True)
    tags = models.ManyToManyField(Tag)


class Swing(models.Model):
    """No natural key; with `Rope` a cycle of rows that only have pks."""

    name = models.CharField(max_length=50)
    rope = models.ForeignKey("Rope", models.CASCADE)


class Rope(models.Model):
    """The other half of that cycle; a column that the database computes."""

    length = models.IntegerField()
    if django.VERSION >= (5, 0):
        twice = models.GeneratedField(
            expression=models.F("length") * 2, output_field=models.IntegerField(), db_persist=True
        )
    swing = models.ForeignKey(Swing, models.CASCADE)


class Visit(models.Model):
    """A natural key with a pk of another model in it."""

    tag = models.ForeignKey(Tag, models.CASCADE)
    day = models.DateField()
    guests = models.IntegerField()

    def natural_key(self) -> Key:
        return (self.tag_id, self.day.isoformat())


class Ticket(models.Model):
    """A natural key with its own pk in it."""

    keeper = models.ForeignKey(Keeper, models.CASCADE)
    text = models.CharField(max_length=50)

    def natural_key(self) -> Key:
        return (self.keeper.natural_key()[0], str(self.id))


class Sensor(models.Model):
    """A UUID pk beside a natural key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    serial = models.CharField(max_length=20, unique=True)

    def natural_key(self) -> Key:
        return (self.serial,)


class Reading(models.Model):
    """A UUID pk and no natural key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    sensor = models.ForeignKey(Sensor, models.CASCADE)
    celsius = models.FloatField()


class Event(models.Model):
    """No natural key, but a unique column that is never null."""

    uuid = models.UUIDField(unique=True)
    text = models.CharField(max_length=50)


class OrderedManyToManyField(models.ManyToManyField):
    """Keeps an order, as such fields of other projects do: in a table with one more column."""

    def contribute_to_class(self, cls: Any, name: str, **options: Any) -> None:
        super().contribute_to_class(cls, name, **options)
        if not cls._meta.abstract:
            through = self.remote_field.through
            through.add_to_class("place", models.PositiveIntegerField())
            through.add_to_class("since", models.DateField(default=date(2020, 1, 1)))
            through._meta.ordering = ("place",)


class Tour(models.Model):
    """Meets keepers, in order."""

    name = models.CharField(max_length=50, unique=True)
    guides = OrderedManyToManyField(Keeper)

    def natural_key(self) -> Key:
        return (self.name,)


class Portrait(models.Model):
    """No natural key, but a one-to-one relation beside the pk."""

    keeper = models.OneToOneField(Keeper, models.CASCADE)
    text = models.CharField(max_length=50)


if django.VERSION >= (5, 2):

    class Shift(models.Model):
        """A primary key of two columns."""

        pk = models.CompositePrimaryKey("keeper_id", "day")
        keeper = models.ForeignKey(Keeper, models.CASCADE)
        day = models.DateField()


class Sticker(models.Model):
    """Sticks to a row of any model."""

    text = models.CharField(max_length=50)
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.CharField(max_length=50)
    thing = GenericForeignKey()


class Person(models.Model):
    """A parent of multi-table inheritance."""

    email = models.CharField(max_length=50, unique=True)

    def natural_key(self) -> Key:
        return (self.email,)


class Vet(Person):
    """A child; its natural key is in its parent's row."""

    licence = models.CharField(max_length=20)


class Vehicle(models.Model):
    """A parent with no natural key."""

    plate = models.CharField(max_length=20)


class Truck(Vehicle):
    """A child with no natural key."""

    load = models.IntegerField()


class VisibleManager(models.Manager["Secret"]):
    def get_queryset(self) -> models.QuerySet[Secret]:
        return super().get_queryset().exclude(hidden=True)


class Secret(models.Model):
    """Every manager hides rows, the base manager too; `save` and `__init__` are no help."""

    name = models.CharField(max_length=20, unique=True)
    hidden = models.BooleanField(default=False)

    objects = VisibleManager()

    class Meta:
        base_manager_name = "objects"

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.name = self.name.upper()

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.hidden = True
        super().save(*args, **kwargs)

    def natural_key(self) -> Key:
        return (self.name,)


class FriendlyKeeper(Keeper):
    """A proxy: its records are those of `Keeper`."""

    class Meta:
        proxy = True


class Dot:
    """Two of them are never equal, and look alike."""

    def __init__(self, x: int, y: int) -> None:
        self.x, self.y = x, y

    def __repr__(self) -> str:
        return "a dot"


class DotField(models.CharField):
    """Its values are objects that only the field knows."""

    def to_python(self, value: Any) -> Any:
        return Dot(*map(int, value.split())) if isinstance(value, str) else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return self.to_python(value)

    def get_prep_value(self, value: Any) -> Any:
        return f"{value.x} {value.y}" if isinstance(value, Dot) else value


class SpotField(DotField):
    """Its values stay objects until they are to be written, as geometries do."""

    def get_prep_value(self, value: Any) -> Any:
        return value

    def get_db_prep_value(self, value: Any, connection: Any, prepared: bool = False) -> Any:
        return super().get_prep_value(value)

    def value_to_string(self, obj: Any) -> Any:
        return super().get_prep_value(self.value_from_object(obj))


class Phrase:
    """Writes the SQL by which it is stored, and adds to what is there where a row exists."""

    contains_aggregate = contains_over_clause = contains_column_references = False
    possibly_multivalued = False

    def __init__(self, text: str, column: str | None = None) -> None:
        self.text, self.column = text, column

    def __str__(self) -> str:
        return self.text

    def resolve_expression(self, *_: Any, **__: Any) -> Phrase:
        return self

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, list[str]]:
        if isinstance(compiler, SQLUpdateCompiler):
            return f"REPLACE({self.column}, {self.column}, %s)", [f"{self.text}!"]
        return "%s", [self.text]


class PhraseField(models.TextField):
    """Its values are written by SQL of their own."""

    def to_python(self, value: Any) -> Any:
        return Phrase(value) if isinstance(value, str) else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else Phrase(value.rstrip("!"))

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else Phrase(str(value), self.attname)

    def get_db_prep_save(self, value: Any, connection: Any) -> Any:
        return self.get_prep_value(value)

    def value_to_string(self, obj: Any) -> str:
        return str(self.value_from_object(obj))


class Motto(models.Model):
    name = models.CharField(max_length=20, unique=True)
    text = PhraseField(null=True)
    rank = models.IntegerField(default=0)


class HexField(models.BigIntegerField):
    """Its values are numbers where a database gives them, and texts where anyone else does."""

    def to_python(self, value: Any) -> Any:
        return hex(value) if isinstance(value, int) else value

    def get_prep_value(self, value: Any) -> Any:
        return int(value, 16) if isinstance(value, str) else value


class BlankField(models.CharField):
    """Its empty text is `None` in Python."""

    def to_python(self, value: Any) -> Any:
        return value or None

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return self.to_python(value)

    def get_prep_value(self, value: Any) -> Any:
        return value or ""


class Beacon(models.Model):
    """Without a key; a unique column tells its rows."""

    serial = HexField(unique=True)
    name = models.CharField(max_length=10)
    note = BlankField(max_length=10, default="")


class Flash(models.Model):
    """Without a key, and nothing but its content tells its rows."""

    beacon = models.ForeignKey(Beacon, models.CASCADE, to_field="serial")
    colour = HexField(null=True)


class Filter(models.Model):
    """Its key is one of those values, and so is what must be unique beside it."""

    colour = HexField()
    slot = HexField(unique=True)

    def natural_key(self) -> Key:
        return (self.colour,)


class Draft(models.Model):
    """Without a key, and in a circle with its versions, which refer to it by a text."""

    dot = DotField(max_length=20)
    latest = models.ForeignKey("Version", models.SET_NULL, null=True)


class Version(models.Model):
    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.CharField(max_length=50)
    of = GenericForeignKey()


class Pin(models.Model):
    """Told by nothing but its place."""

    spot = SpotField(max_length=20)


class Verdict(models.Model):
    """Told by its draft, which is in a circle."""

    draft = models.OneToOneField(Draft, models.CASCADE)
    text = models.CharField(max_length=20)


class Vote(models.Model):
    verdict = models.ForeignKey(Verdict, models.CASCADE)


class Label(models.Model):
    """A natural key that does not tell rows apart."""

    thing = models.IntegerField()
    text = models.CharField(max_length=20)

    def natural_key(self) -> Key:
        return (self.thing,)


class Sign(Label):
    """A child whose key is its parent's, and tells its rows apart no more than those."""

    colour = models.CharField(max_length=20)


class Sticky(models.Model):
    """Unique together is the label, but not what the key says of it."""

    label = models.ForeignKey(Label, models.CASCADE)
    number = models.IntegerField()

    class Meta:
        unique_together: ClassVar = [("label", "number")]

    def natural_key(self) -> Key:
        return (self.label.thing, self.number)


class Ancestry(models.Model):
    """A natural key that a query makes, and none that names the database."""

    name = models.CharField(max_length=20)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    def natural_key(self) -> Key:
        return tuple(Ancestry.objects.filter(pk=self.pk).values_list("name", flat=True))


class Slot(models.Model):
    """What the database keeps unique or in order, in every way."""

    keeper = models.ForeignKey(Keeper, models.CASCADE)
    day = models.DateField(null=True)
    post = models.CharField(max_length=20)
    guest = models.OneToOneField(Keeper, models.CASCADE, null=True, related_name="+")
    is_open = models.BooleanField(default=False)
    sign = models.CharField(max_length=20, null=True)
    begin = models.IntegerField(default=1)
    end = models.IntegerField(default=2, null=True)

    class Meta:
        unique_together = (("keeper", "day"),)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["post"], condition=models.Q(is_open=True), name="one_open_slot_per_post"
            ),
            models.UniqueConstraint(Lower("sign"), name="sign_in_any_case"),
            check("begin_before_end", models.Q(begin__lt=models.F("end"))),
            check("begin_is_positive", GreaterThan(models.F("begin"), 0)),
        ]


class Shelf(models.Model):
    """Without a key; unique together are columns one of which leads to rows without a key."""

    inside = models.ForeignKey("self", models.CASCADE, null=True)
    name = models.CharField(max_length=20)
    first = models.ForeignKey("Jar", models.SET_NULL, null=True)
    note = models.CharField(max_length=20, default="")

    class Meta:
        unique_together: ClassVar = [("inside", "name")]


class Rack(Shelf):
    code = models.CharField(max_length=20, unique=True, null=True)


class Jar(models.Model):
    shelf = models.ForeignKey(Shelf, models.CASCADE)
    label = models.CharField(max_length=20)
    note = models.CharField(max_length=20, default="")
    lid = models.ForeignKey("self", models.SET_NULL, null=True)

    class Meta:
        unique_together: ClassVar = [("shelf", "label")]
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["note"], condition=models.Q(lid__isnull=False), name="a_note_under_each_lid"
            ),
        ]


class SecretField(models.CharField):
    """Encrypts, in its way: what is stored is not what is shown, and may be longer."""

    def get_internal_type(self) -> str:
        return "TextField"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return None if value is None else value[::-1].removeprefix("secret:")

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else f"secret:{value}"[::-1]


class Vault(models.Model):
    """A field that stores its values in its own way; one for each kind of text and number."""

    name = models.CharField(max_length=10, unique=True)
    code = models.CharField(max_length=10, unique=True, null=True)
    content = SecretField(max_length=10, null=True)
    api_token = models.CharField(max_length=20, null=True)
    small = models.SmallIntegerField(default=0)
    amount = models.DecimalField(max_digits=5, decimal_places=2, null=True)
    place = models.GenericIPAddressField(null=True)
    data = models.JSONField(default=dict)
    wait = models.DurationField(null=True)
    at = models.TimeField(null=True)
    share = models.FloatField(null=True)
    key = models.UUIDField(null=True)
    moment = models.DateTimeField(null=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Lamp(models.Model):
    """Without a key; what is unique is neither text nor number."""

    is_lit = models.BooleanField(null=True, unique=True)
