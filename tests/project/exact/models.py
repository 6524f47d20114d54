"""A model of every kind that the ORM allows, each with rows in `rows.py`.

What Django makes of their natural keys is what fastnk has to make of them, value for value.
"""

from __future__ import annotations

import uuid
from typing import Any

import django
from django.conf import settings
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import models
from django.db.models.functions import Coalesce

Key = tuple[Any, ...]


class Base(models.Model):
    """Abstract. Without permissions, which would be most of what every test's database holds."""

    class Meta:
        abstract = True
        default_permissions = ()


# ---- abstract bases and managers --------------------------------------------------------------


class KeyedManager(models.Manager):
    def get_by_natural_key(self, code: str) -> Any:
        return self.get(code=code)


class Coded(Base):
    """Abstract: defines the key."""

    code = models.CharField(max_length=40, unique=True)

    class Meta(Base.Meta):
        abstract = True

    def natural_key(self) -> Key:
        return (self.code,)


class Ranked(Coded):
    """Abstract: overrides the key of its base by more."""

    rank = models.IntegerField()

    class Meta(Base.Meta):
        abstract = True

    def natural_key(self) -> Key:
        return (*super().natural_key(), self.rank)


class Badge(Coded):
    """The key of an abstract base, and a manager that finds by it."""

    objects = KeyedManager()


class Medal(Ranked):
    """The key of an abstract base of an abstract base."""


class Trophy(Ranked):
    """An abstract base's key, overridden in the model."""

    def natural_key(self) -> Key:
        return (self.rank, self.code)


class Catalogue(Base):
    """`get_by_natural_key` without `natural_key`: Django keeps its pks."""

    code = models.CharField(max_length=40, unique=True)
    objects = KeyedManager()


class CatalogueEntry(Base):
    catalogue = models.ForeignKey(Catalogue, models.CASCADE)
    badge = models.ForeignKey(Badge, models.CASCADE)


# ---- pks --------------------------------------------------------------------------------------


class Country(Base):
    """A string pk that is the natural key."""

    iso = models.CharField(max_length=2, primary_key=True)
    name = models.CharField(max_length=40)

    def natural_key(self) -> Key:
        return (self.iso,)


class Currency(Base):
    """A string pk that is not in the natural key."""

    symbol = models.CharField(max_length=20, primary_key=True)
    name = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Device(Base):
    """A UUID pk beside a natural key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    serial = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.serial,)


class Firmware(Base):
    """A UUID pk without a natural key."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    devices = models.ManyToManyField(Device)
    after = models.ForeignKey("self", models.CASCADE, null=True)


class Floor(Base):
    """An integer pk that people choose: negative and zero too."""

    level = models.IntegerField(primary_key=True)
    name = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Room(Base):
    """A pk that the database numbers: negative and as big as they get."""

    number = models.CharField(max_length=20)
    floor = models.ForeignKey(Floor, models.CASCADE)

    def natural_key(self) -> Key:
        return (*self.floor.natural_key(), self.number)


class Desk(Base):
    """No natural key; a big pk."""

    id = models.BigAutoField(primary_key=True)
    room = models.ForeignKey(Room, models.CASCADE)
    next_to = models.ForeignKey("self", models.SET_NULL, null=True)


class Drawer(Base):
    """A key with another model's pk and its own in it."""

    desk = models.ForeignKey(Desk, models.CASCADE)
    room = models.ForeignKey(Room, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.desk_id, self.room_id, str(self.pk))


if django.VERSION >= (5, 2):

    class Seat(Base):
        """A composite pk without a natural key."""

        pk = models.CompositePrimaryKey("room_id", "number")
        room = models.ForeignKey(Room, models.CASCADE)
        number = models.IntegerField()
        floor = models.ForeignKey(Floor, models.CASCADE)

    class Ticket(Base):
        """A composite pk with another natural key."""

        pk = models.CompositePrimaryKey("block", "number")
        block = models.CharField(max_length=9)
        number = models.IntegerField()
        barcode = models.CharField(max_length=40, unique=True)

        def natural_key(self) -> Key:
            return (self.barcode,)

    class Pair(Base):
        """A composite pk that is the natural key."""

        pk = models.CompositePrimaryKey("left", "right")
        left = models.IntegerField()
        right = models.CharField(max_length=9)

        def natural_key(self) -> Key:
            return self.pk


# ---- relations as pks -------------------------------------------------------------------------


class Profile(Base):
    """A one-to-one relation as pk and as key."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True)
    biography = models.TextField()

    def natural_key(self) -> Key:
        return self.user.natural_key()


class Passport(Base):
    """A one-to-one relation as pk, and a key of its own."""

    profile = models.OneToOneField(Profile, models.CASCADE, primary_key=True)
    number = models.CharField(max_length=20, unique=True)

    def natural_key(self) -> Key:
        return (self.number,)


class Visa(Base):
    """Refers to a chain of such pks."""

    passport = models.ForeignKey(Passport, models.CASCADE)
    profile = models.ForeignKey(Profile, models.CASCADE)
    country = models.ForeignKey(Country, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.passport.natural_key(), self.country.natural_key())


class Diet(Base):
    """A one-to-one relation as pk, no natural key."""

    profile = models.OneToOneField(Profile, models.CASCADE, primary_key=True)
    food = models.CharField(max_length=40)


class Snack(Base):
    diet = models.ForeignKey(Diet, models.CASCADE)


class Lock(Base):
    """A one-to-one relation to a model without natural key as pk, and a key."""

    desk = models.OneToOneField(Desk, models.CASCADE, primary_key=True)
    code = models.CharField(max_length=20, unique=True)

    def natural_key(self) -> Key:
        return (self.code,)


class Keyhole(Base):
    """The same with that pk as the key."""

    desk = models.OneToOneField(Desk, models.CASCADE, primary_key=True)

    def natural_key(self) -> Key:
        return (self.desk_id,)


class Rank(Base):
    """A foreign key with a `to_field` as pk."""

    badge = models.OneToOneField(Badge, models.CASCADE, to_field="code", primary_key=True)
    value = models.IntegerField()

    def natural_key(self) -> Key:
        return (self.value,)


class Tariff(Base):
    """A foreign key that is a pk without being called one-to-one."""

    country = models.ForeignKey(Country, models.CASCADE, primary_key=True)

    def natural_key(self) -> Key:
        return self.country.natural_key()


class Levy(Base):
    """The same without a natural key."""

    room = models.ForeignKey(Room, models.CASCADE, primary_key=True)
    percent = models.IntegerField()


# ---- foreign keys -----------------------------------------------------------------------------


class Region(Base):
    """A foreign key in the key: one level."""

    country = models.ForeignKey(Country, models.CASCADE)
    name = models.CharField(max_length=40)

    def natural_key(self) -> Key:
        return (self.name, *self.country.natural_key())

    natural_key.dependencies = ("exact.country",)  # type: ignore[attr-defined]


class City(Base):
    """Two levels."""

    region = models.ForeignKey(Region, models.CASCADE)
    name = models.CharField(max_length=40)

    def natural_key(self) -> Key:
        return (self.name, *self.region.natural_key())


class Street(Base):
    """Three levels."""

    city = models.ForeignKey(City, models.CASCADE)
    name = models.CharField(max_length=40)
    crosses = models.ForeignKey("self", models.SET_NULL, null=True)

    def natural_key(self) -> Key:
        return (self.name, *self.city.natural_key())


class Product(Base):
    """What `to_field` relations refer to: by a text, a number and a UUID."""

    sku = models.CharField(max_length=20, unique=True)
    ean = models.BigIntegerField(unique=True)
    token = models.UUIDField(unique=True)
    name = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Offer(Base):
    """`to_field`, and a key by way of one."""

    product = models.ForeignKey(Product, models.CASCADE, to_field="sku", related_name="+")
    same = models.ForeignKey(Product, models.CASCADE, to_field="ean", null=True, related_name="+")
    like = models.ForeignKey(Product, models.CASCADE, to_field="token", null=True, related_name="+")
    catalogue = models.ForeignKey(Catalogue, models.CASCADE, to_field="code")
    price = models.DecimalField(max_digits=9, decimal_places=2)

    def natural_key(self) -> Key:
        return (*self.product.natural_key(), self.product_id, self.price)


class Locker(Base):
    owner = models.OneToOneField(Profile, models.CASCADE)
    number = models.IntegerField(unique=True)

    def natural_key(self) -> Key:
        return (self.number,)


class LockerKey(Base):
    """A `to_field` that is a relation itself, to a model whose pk is one."""

    locker = models.ForeignKey(Locker, models.CASCADE, to_field="owner")


class Folder(Base):
    """A tree, and a parent's field in the key: null at the root."""

    parent = models.ForeignKey("self", models.CASCADE, null=True)
    name = models.CharField(max_length=40)

    def natural_key(self) -> Key:
        return (self.name, self.parent.name if self.parent else None)


class Comment(Base):
    """A tree without natural key."""

    parent = models.ForeignKey("self", models.CASCADE, null=True)
    badge = models.ForeignKey(Badge, models.CASCADE, null=True)


class Stage(Base):
    """A tree whose root is its own parent, because the column is NOT NULL."""

    parent = models.ForeignKey("self", models.CASCADE)
    name = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.name, self.parent.name)


class Step(Base):
    """The same without natural key."""

    parent = models.ForeignKey("self", models.CASCADE)


class Team(Base):
    """A cycle that a null opens."""

    name = models.CharField(max_length=40, unique=True)
    captain = models.ForeignKey("Player", models.SET_NULL, null=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Player(Base):
    name = models.CharField(max_length=40)
    team = models.ForeignKey(Team, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.name, self.team.name)


class Ship(Base):
    """The same without natural keys."""

    captain = models.ForeignKey("Sailor", models.SET_NULL, null=True)


class Sailor(Base):
    ship = models.ForeignKey(Ship, models.CASCADE)


class Egg(Base):
    """A cycle that nothing opens."""

    name = models.CharField(max_length=40, unique=True)
    hen = models.ForeignKey("Hen", models.CASCADE)

    def natural_key(self) -> Key:
        return (self.name,)


class Hen(Base):
    name = models.CharField(max_length=40)
    egg = models.ForeignKey(Egg, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.name, *self.egg.natural_key())


class Chicken(Base):
    """The same without natural keys."""

    rooster = models.ForeignKey("Rooster", models.CASCADE)


class Rooster(Base):
    chicken = models.ForeignKey(Chicken, models.CASCADE)


class Unsaved(Base):
    """Fields that Django leaves out of backups, and one with another column."""

    code = models.CharField(max_length=20, unique=True, db_column="Kode")
    cached = models.ForeignKey(Badge, models.CASCADE, null=True, serialize=False)
    counted = models.IntegerField(default=0, serialize=False)

    def natural_key(self) -> Key:
        return (self.code,)


# ---- many-to-many -----------------------------------------------------------------------------


class Person(Base):
    """To itself, both ways and one way; to models with and without keys; through others."""

    name = models.CharField(max_length=40, unique=True)
    friends = models.ManyToManyField("self")
    follows = models.ManyToManyField("self", symmetrical=False, related_name="followers")
    badges = models.ManyToManyField(Badge)
    comments = models.ManyToManyField(Comment)
    devices = models.ManyToManyField(Device)
    countries = models.ManyToManyField(Country)
    teams = models.ManyToManyField(Team, through="Membership", related_name="people")
    streets = models.ManyToManyField(Street, through="Walk")
    knows = models.ManyToManyField("self", through="Acquaintance", symmetrical=False)

    def natural_key(self) -> Key:
        return (self.name,)


class Membership(Base):
    """A through model with a key, and two relations to one side."""

    person = models.ForeignKey(Person, models.CASCADE, related_name="memberships")
    team = models.ForeignKey(Team, models.CASCADE, related_name="memberships")
    since = models.DateField()

    def natural_key(self) -> Key:
        return (self.person.natural_key(), self.team.natural_key(), self.since)


class Walk(Base):
    """A through model without a key."""

    person = models.ForeignKey(Person, models.CASCADE)
    street = models.ForeignKey(Street, models.CASCADE)


class Acquaintance(Base):
    """A through model that leads back to the same model."""

    knowing = models.ForeignKey(Person, models.CASCADE, related_name="knowing")
    known = models.ForeignKey(Person, models.CASCADE, related_name="known")


class Crowd(Base):
    """Many-to-many from a model without natural key; a relation to a through model of Django's."""

    people = models.ManyToManyField(Person)
    rivals = models.ManyToManyField("self")
    tie = models.ForeignKey(Person.badges.through, models.SET_NULL, null=True)


# ---- tables that continue other tables -----------------------------------------------------------


class Place(Base):
    """A parent with a key; a grandparent."""

    name = models.CharField(max_length=40, unique=True)
    city = models.ForeignKey(City, models.CASCADE, null=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Restaurant(Place):
    """The parent's key."""

    stars = models.IntegerField()
    guests = models.ManyToManyField(Person)


class Bistro(Restaurant):
    """The grandparent's key."""

    menu = models.TextField()


class Shop(Place):
    """A key of its own, by an inherited relation and an inherited field."""

    licence = models.CharField(max_length=20)

    def natural_key(self) -> Key:
        return (self.licence, self.name, self.city.natural_key(), self.city.region.name)


class Vehicle(Base):
    """A parent without a key."""

    wheels = models.IntegerField()


class Truck(Vehicle):
    """A key of its own below a parent without one."""

    plate = models.CharField(max_length=20, unique=True)

    def natural_key(self) -> Key:
        return (self.plate,)


class Lorry(Truck):
    """A key two levels down, with fields of all three levels."""

    load = models.IntegerField()

    def natural_key(self) -> Key:
        return (*super().natural_key(), self.load, self.wheels)


class Cart(Vehicle):
    """No key one level down."""

    horses = models.IntegerField()


class Coach(Cart):
    """No key two levels down."""

    doors = models.IntegerField()


class Planet(Base):
    """A parent with a string pk and a key."""

    code = models.CharField(max_length=20, primary_key=True)
    name = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Moon(Planet):
    """A link with a name of its own, declared after another field."""

    radius = models.FloatField()
    planet = models.OneToOneField(
        Planet, models.CASCADE, parent_link=True, primary_key=True, related_name="+"
    )
    around = models.ForeignKey(Planet, models.CASCADE, related_name="moons")


class Boat(Base):
    hull = models.AutoField(primary_key=True)
    name = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.name,)


class Car(Base):
    chassis = models.AutoField(primary_key=True)
    plate = models.CharField(max_length=20)


class Amphibian(Boat, Car):
    """Two parents: one link is the pk, the other a plain field."""


class Landmark(Place):
    """A link that is not the pk."""

    place = models.OneToOneField(Place, models.CASCADE, parent_link=True, related_name="+")
    listing = models.CharField(max_length=20, primary_key=True)


class Visit(Base):
    """Refers to children and grandchildren, with keys and without."""

    restaurant = models.ForeignKey(Restaurant, models.CASCADE, related_name="+")
    bistro = models.ForeignKey(Bistro, models.CASCADE, null=True, related_name="+")
    shop = models.ForeignKey(Shop, models.CASCADE, null=True, related_name="+")
    truck = models.ForeignKey(Truck, models.CASCADE, null=True, related_name="+")
    lorry = models.ForeignKey(Lorry, models.CASCADE, null=True, related_name="+")
    coach = models.ForeignKey(Coach, models.CASCADE, null=True, related_name="+")
    moon = models.ForeignKey(Moon, models.CASCADE, null=True, related_name="+")
    amphibian = models.ForeignKey(Amphibian, models.CASCADE, null=True, related_name="+")
    landmark = models.ForeignKey(Landmark, models.CASCADE, null=True, related_name="+")
    places = models.ManyToManyField(Place, related_name="+")
    coaches = models.ManyToManyField(Coach, related_name="+")
    lorries = models.ManyToManyField(Lorry, related_name="+")

    def natural_key(self) -> Key:
        return (self.restaurant.name, self.restaurant_id, self.lorry and self.lorry.wheels)


# ---- proxies ----------------------------------------------------------------------------------


class Author(Person):
    """A proxy with the model's key."""

    class Meta(Base.Meta):
        proxy = True


class Celebrity(Person):
    """A proxy with another key, which nothing refers to."""

    class Meta(Base.Meta):
        proxy = True

    def natural_key(self) -> Key:
        return ("famous", self.name)


class Novelist(Author):
    """A proxy of a proxy that spells the same key in its own way."""

    class Meta(Base.Meta):
        proxy = True

    def natural_key(self) -> Key:
        return (self.name,)


class Remark(Comment):
    """A proxy with a key of a model without one, which nothing refers to."""

    class Meta(Base.Meta):
        proxy = True

    def natural_key(self) -> Key:
        return (self.pk,)


class Book(Base):
    """Refers to proxies."""

    title = models.CharField(max_length=40)
    author = models.ForeignKey(Author, models.CASCADE, related_name="books")
    editors = models.ManyToManyField(Novelist, related_name="edited")

    def natural_key(self) -> Key:
        return (self.title, *self.author.natural_key())


# ---- keys of every make -----------------------------------------------------------------------


class Shift(models.TextChoices):
    DAY = "D", "by day"
    NIGHT = "N", "by night"


class Grade(models.IntegerChoices):
    LOW = 1
    HIGH = 2


class Moment(Base):
    """Dates and times as they are."""

    day = models.DateField()
    time = models.TimeField()
    at = models.DateTimeField()

    def natural_key(self) -> Key:
        return (self.day, self.time, self.at)


class Stamp(Base):
    """Dates and times as text."""

    day = models.DateField()
    time = models.TimeField()
    at = models.DateTimeField()

    def natural_key(self) -> Key:
        return (self.day.isoformat(), self.time.isoformat(), self.at.isoformat(), str(self.day))


class Measure(Base):
    """Numbers as they are and as text."""

    amount = models.DecimalField(max_digits=20, decimal_places=6)
    ratio = models.FloatField()
    count = models.BigIntegerField()
    exact = models.BooleanField(null=True)

    def natural_key(self) -> Key:
        return (self.amount, str(self.amount), self.ratio, self.count, str(self.count), self.exact)


class Beacon(Base):
    """UUIDs as they are and as text; a nested key."""

    token = models.UUIDField(default=uuid.uuid4)
    other = models.UUIDField(null=True)
    device = models.ForeignKey(Device, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.token, [str(self.token), [self.device_id, self.device.natural_key()]])


class Duty(Base):
    """Enumerations."""

    shift = models.CharField(max_length=1, choices=Shift.choices, default=Shift.DAY)
    grade = models.IntegerField(choices=Grade.choices)
    person = models.ForeignKey(Person, models.CASCADE)

    def natural_key(self) -> Key:
        return (self.shift, self.grade, str(self.grade), self.person.natural_key())


class Gap(Base):
    """Nulls, also on the way."""

    code = models.CharField(max_length=20, null=True)
    number = models.IntegerField(null=True)
    city = models.ForeignKey(City, models.CASCADE, null=True)

    def natural_key(self) -> Key:
        return (self.code, str(self.number), self.city and self.city.region.name, self.id)


class Word(Base):
    """Keys that need escapes, from a field whose name does."""

    größe = models.CharField(max_length=200, unique=True)
    model = models.ForeignKey("self", models.SET_NULL, null=True)
    fields = models.JSONField(default=dict)

    def natural_key(self) -> Key:
        return (self.größe,)


# ---- fields and generic relations ---------------------------------------------------------------


class Everything(Base):
    """Fields whose content must not be mistaken for anything."""

    facts = models.JSONField(null=True)
    upload = models.FileField(upload_to="files")
    blob = models.BinaryField(null=True)
    lasts = models.DurationField(null=True)
    text = models.TextField()
    ratio = models.FloatField(null=True)
    amount = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    address = models.GenericIPAddressField(null=True)
    link = models.URLField(null=True)
    word = models.ForeignKey(Word, models.CASCADE, null=True)


class Note(Base):
    """A generic relation in an integer column."""

    content_type = models.ForeignKey(ContentType, models.CASCADE, null=True)
    object_id = models.BigIntegerField(null=True)
    target = GenericForeignKey("content_type", "object_id")
    text = models.CharField(max_length=40)


class Sticker(Base):
    """A generic relation in a text column, of a model with a key, under other names."""

    kind = models.ForeignKey(ContentType, models.CASCADE)
    which = models.CharField(max_length=40)
    target = GenericForeignKey("kind", "which")
    code = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.code, *self.kind.natural_key())


class Pin(Base):
    """A generic relation in a UUID column."""

    content_type = models.ForeignKey(ContentType, models.CASCADE)
    object_id = models.UUIDField()
    target = GenericForeignKey("content_type", "object_id")


if django.VERSION >= (5, 0):

    class Sum(Base):
        """Columns that the database fills."""

        net = models.IntegerField(unique=True)
        currency = models.CharField(max_length=3, db_default="EUR")
        gross = models.GeneratedField(
            expression=models.F("net") * 2,
            output_field=models.IntegerField(),
            db_persist=True,
            unique=True,
        )

        def natural_key(self) -> Key:
            return (self.net, self.currency)

    class Term(Base):
        """A key that the database makes."""

        since = models.DateField()
        until = models.DateField(null=True)
        ends = models.GeneratedField(
            expression=Coalesce("until", "since"),
            output_field=models.DateField(),
            db_persist=True,
            unique=True,
        )

        def natural_key(self) -> Key:
            return (self.ends,)

    class Bill(Base):
        """Refers to rows by what the database makes."""

        total = models.ForeignKey(Sum, models.CASCADE, to_field="gross")
        term = models.ForeignKey(Term, models.CASCADE)

        def natural_key(self) -> Key:
            return (self.total_id, *self.term.natural_key())


class Chapter(Base):
    """Referred to by two columns together."""

    book = models.CharField(max_length=40)
    number = models.IntegerField()

    class Meta(Base.Meta):
        unique_together = (("book", "number"),)

    def __str__(self) -> str:
        return f"{self.book} {self.number}"


class Verse(Base):
    """A relation without a column of its own: Django writes a text for people into backups."""

    book = models.CharField(max_length=40)
    number = models.IntegerField()
    text = models.CharField(max_length=100, unique=True)
    chapter = models.ForeignObject(
        Chapter,
        models.CASCADE,
        from_fields=("book", "number"),
        to_fields=("book", "number"),
    )


class HiddenManager(models.Manager):
    def get_queryset(self) -> Any:
        return super().get_queryset().filter(hidden=False)


class Secret(Base):
    """Rows that the default manager hides."""

    name = models.CharField(max_length=40, unique=True)
    hidden = models.BooleanField(default=False)
    objects = HiddenManager()

    def natural_key(self) -> Key:
        return (self.name,)


class Hint(Base):
    secret = models.ForeignKey(Secret, models.CASCADE)
