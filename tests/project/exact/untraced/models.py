"""Natural keys that no path describes. Their app is installed for single tests only."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.models import Group
from django.db import models

Key = tuple[Any, ...]


class Edition(models.Model):
    """Abstract: what the methods below make keys of."""

    code = models.CharField(max_length=40, unique=True)
    year = models.IntegerField(default=2024)
    at = models.DateTimeField(null=True)
    lasts = models.DurationField(null=True)
    facts = models.JSONField(default=dict)
    shift = models.CharField(max_length=1, choices=[("D", "by day")], default="D")

    class Meta:
        abstract = True


class Formatted(Edition):
    def natural_key(self) -> Key:
        return (f"{self.code}-{self.year:04}",)


class Percent(Edition):
    def natural_key(self) -> Key:
        return ("%s-%d" % (self.code, self.year),)  # noqa: UP031


class Format(Edition):
    def natural_key(self) -> Key:
        return ("{}/{}".format(self.code, self.year),)  # noqa: UP032


class Joined(Edition):
    def natural_key(self) -> Key:
        return (self.code + "-" + str(self.year),)


class Sliced(Edition):
    def natural_key(self) -> Key:
        return (self.code[:3], self.code[3:])


class Lowered(Edition):
    def natural_key(self) -> Key:
        return (self.code.lower(),)


class Spelled(Edition):
    def natural_key(self) -> Key:
        return (self.code, str(self.at))


class Lasting(Edition):
    def natural_key(self) -> Key:
        return (self.code, self.lasts)


class Structured(Edition):
    def natural_key(self) -> Key:
        return (self.code, self.facts)


class Labelled(Edition):
    def natural_key(self) -> Key:
        return (self.code, self.get_shift_display())


class Branching(Edition):
    def natural_key(self) -> Key:
        return (self.code,) if self.year > 2000 else (self.code, self.year)


class Typed(Edition):
    """Looks at the type of a value in the one way that cannot be refused."""

    def natural_key(self) -> Key:
        return (self.code,) if type(self.code) is str else (self.year,)


class Asking(Edition):
    """Queries the database, and returns an instance besides."""

    def natural_key(self) -> Key:
        return (self.code, Group.objects.first())


class Branch(models.Model):
    """The names of all ancestors: a key of any length."""

    name = models.CharField(max_length=40)
    parent = models.ForeignKey("self", models.CASCADE, null=True)

    def natural_key(self) -> Key:
        return (*(self.parent.natural_key() if self.parent else ()), self.name)


class Account(models.Model):
    """The method of the model is plain; a proxy of it that is referred to has another."""

    email = models.CharField(max_length=40, unique=True)

    def natural_key(self) -> Key:
        return (self.email,)


class Customer(Account):
    class Meta:
        proxy = True

    def natural_key(self) -> Key:
        return ("customer", self.email)


class Order(models.Model):
    customer = models.ForeignKey(Customer, models.CASCADE)


class Plain(models.Model):
    """Without a natural key, but a proxy of it that is referred to has one."""

    name = models.CharField(max_length=40)


class Fancy(Plain):
    class Meta:
        proxy = True

    def natural_key(self) -> Key:
        return (self.name,)


class Party(models.Model):
    guests = models.ManyToManyField(Fancy)


class Seen(Account):
    """A child whose own method is plain; below a model whose key is not."""

    def natural_key(self) -> Key:
        return (self.email, self.pk)


class Base(models.Model):
    """What a child's key is made of."""

    code = models.CharField(max_length=40, unique=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, default="1.50")
    token = models.UUIDField(null=True)


class Grown(Base):
    """A child whose key formats the fields of its parent."""

    size = models.IntegerField(default=1)

    def natural_key(self) -> Key:
        return (f"{self.code}/{self.size}", [self.price, self.token], self.base_ptr.code.upper())


class Shelf(models.Model):
    """Refers to most of the above, and takes their keys into its own."""

    formatted = models.ForeignKey(Formatted, models.CASCADE)
    joined = models.ForeignKey(Joined, models.CASCADE, to_field="code")
    branch = models.ForeignKey(Branch, models.CASCADE, null=True)
    grown = models.OneToOneField(Grown, models.CASCADE)
    sliced = models.ManyToManyField(Sliced)
    lasting = models.ForeignKey(Lasting, models.CASCADE)
    account = models.ForeignKey(Account, models.CASCADE)

    def natural_key(self) -> Key:
        branch = self.branch.natural_key() if self.branch else (None,)
        return (*self.formatted.natural_key(), self.joined.code.lower(), *branch, str(self.pk)[:1])


class Book(models.Model):
    """A key whose parts are read from fields, by way of one that a method makes."""

    shelf = models.ForeignKey(Shelf, models.CASCADE)
    number = models.IntegerField()

    def natural_key(self) -> Key:
        return (self.shelf.formatted.code, self.number)


class Folder(models.Model):
    """A tree in which a query finds the ancestors."""

    path = models.CharField(max_length=40, unique=True)
    name = models.CharField(max_length=40)

    def natural_key(self) -> Key:
        paths = [self.path[:length] for length in range(1, len(self.path) + 1)]
        above = Folder.objects.using(self._state.db).filter(path__in=paths)
        return tuple(above.order_by("path").values_list("name", flat=True))


class Circle(models.Model):
    """A key of what a many-to-many relation leads to, and of a whole table."""

    members = models.ManyToManyField(Seen)

    def natural_key(self) -> Key:
        seen = [member.email for member in self.members.filter(pk__gt=1).order_by("email")]
        least = Base.objects.using(self._state.db).aggregate(models.Min("price"))
        return (*seen, *least.values())


class File(models.Model):
    folder = models.ForeignKey(Folder, models.CASCADE, to_field="path")
    circle = models.ForeignKey(Circle, models.CASCADE)
    at = models.DateTimeField()


class Careless(Edition):
    """Catches whatever goes wrong."""

    def natural_key(self) -> Key:
        try:
            return (self.code, Group.objects.count())
        except Exception:
            return (self.code, 0)


class Broken(Edition):
    def natural_key(self) -> Key:
        raise ValueError("no key today")


class Endless(Edition):
    def natural_key(self) -> Key:
        return self.natural_key()


class Wordy(Edition):
    def natural_key(self) -> Any:
        return {"code": self.code[:]}
