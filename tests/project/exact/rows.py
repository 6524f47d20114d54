"""Rows of every model of the zoo."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import django
from django.contrib.auth.models import Group, Permission, User
from django.contrib.contenttypes.models import ContentType

from tests.databases import at_once
from tests.project.exact import models as exact

Make = Callable[..., Any]

TRICKY = 'Zoë "Ω" \\ / \t\n\u2028 😀 \u0001 {"pk": 1, "fields": {}}'
RECORD = {"model": "exact.badge", "pk": 1, "fields": {"code": "no", "fields": {"pk": None}}}
JSON = {**RECORD, "natural_key": ["x"], "list": [RECORD, "]}", '"model": "exact.badge"'], "": -0.5}
AT = datetime(2023, 12, 31, 23, 59, 59, 120_000, tzinfo=UTC)


def fill(alias: str) -> None:
    """Put rows of every model into the database `alias`, which has its tables."""

    def make(model: Any, /, **values: Any) -> Any:
        many = {f.name: values.pop(f.name, ()) for f in model._meta.many_to_many}
        row = model(**values)
        row.save(using=alias, force_insert=True)
        if "pk" in values:  # a driver of MySQL gives it back without its sign
            row.pk = values["pk"]
        for name, others in many.items():
            if others:
                getattr(row, name).set(others)
        return row

    with at_once(alias):
        users = _users(make, alias)
        codes = _codes(make)
        pks = _pks(make)
        _composite_pks(make, pks)
        _relations_as_pks(make, users, codes, pks)
        cities = _foreign_keys(make, codes)
        people = _many_to_many(make, codes, pks, cities)
        _children(make, people, cities)
        _proxies(make)
        _keys(make, people, pks, cities)
        _fields(make, alias)
        _hidden(make)


def _users(make: Make, alias: str) -> list[Any]:
    permissions = list(Permission.objects.using(alias).filter(codename__contains="group"))
    group = make(Group, name="Gruppe Ä", permissions=permissions[1:])
    names = ("ann", 'b"o\\b', "zoë")
    of_all = {"date_joined": AT, "groups": [group]}  # not now: a dump may spell that ".000"
    return [
        make(User, pk=70 + n, username=name, user_permissions=permissions[:n], **of_all)
        for n, name in enumerate(names)
    ]


def _codes(make: Make) -> dict[str, Any]:
    badges = [make(exact.Badge, pk=pk, code=f"B{pk}") for pk in (9, 10, 100)]
    make(exact.Medal, code="gold", rank=1)
    make(exact.Medal, code="gelb", rank=1)
    make(exact.Trophy, code="cup", rank=-3)
    catalogue = make(exact.Catalogue, pk=4, code="spring")
    make(exact.CatalogueEntry, catalogue=catalogue, badge=badges[1])
    return {"badges": badges, "catalogue": catalogue}


def _pks(make: Make) -> dict[str, Any]:
    make(exact.Currency, symbol="€", name="euro")
    make(exact.Currency, symbol='"', name="inch")
    devices = [make(exact.Device, id=uuid.UUID(int=n << 90), serial=f"S-{n}") for n in (3, 1, 2)]
    first = make(exact.Firmware, id=uuid.UUID(int=8), devices=devices)
    make(exact.Firmware, id=uuid.UUID(int=7), after=first, devices=devices[:1])
    floors = [make(exact.Floor, level=n, name=f"floor {n}") for n in (-2, 0, 1)]
    rooms = [
        make(exact.Room, pk=pk, number="001", floor=floor)
        for pk, floor in zip((-7, 2**63 - 1, 1), floors, strict=True)
    ]
    desk = make(exact.Desk, pk=2**63 - 2, room=rooms[0])
    other = make(exact.Desk, pk=-(2**63), room=rooms[1], next_to=desk)
    make(exact.Drawer, pk=-1, desk=desk, room=rooms[1])
    make(exact.Drawer, pk=2**53 + 1, desk=other, room=rooms[2])
    return {"devices": devices, "floors": floors, "rooms": rooms, "desks": [desk, other]}


def _composite_pks(make: Make, pks: dict[str, Any]) -> None:
    if django.VERSION < (5, 2):
        return
    for number, room in enumerate(pks["rooms"]):
        make(exact.Seat, room=room, number=number, floor=room.floor)
        make(exact.Ticket, block=TRICKY[:9], number=number, barcode=f"{number}{TRICKY}"[:40])
        make(exact.Pair, left=number, right="5")


def _relations_as_pks(
    make: Make, users: list[Any], codes: dict[str, Any], pks: dict[str, Any]
) -> None:
    profiles = [make(exact.Profile, user=user, biography=TRICKY) for user in users]
    passports = [
        make(exact.Passport, profile=profile, number=f"P{n}") for n, profile in enumerate(profiles)
    ]
    country = make(exact.Country, iso="BE", name="Belgique")
    make(exact.Visa, passport=passports[1], profile=profiles[0], country=country)
    diet = make(exact.Diet, profile=profiles[2], food="soup")
    make(exact.Snack, diet=diet)
    for number, desk in enumerate(pks["desks"]):
        make(exact.Lock, desk=desk, code=f"L{number}")
        make(exact.Keyhole, desk=desk)
    make(exact.Rank, badge=codes["badges"][2], value=7)
    make(exact.Tariff, country=country)
    make(exact.Levy, room=pks["rooms"][0], percent=3)
    make(exact.LockerKey, locker=make(exact.Locker, pk=700, owner=profiles[0], number=12))


def _foreign_keys(make: Make, codes: dict[str, Any]) -> list[Any]:
    france = make(exact.Country, iso="FR", name="France")
    regions = [make(exact.Region, pk=n, country=france, name=f"région {n}") for n in (31, 30)]
    cities = [make(exact.City, region=region, name="Saint-Jean") for region in regions]
    first = make(exact.Street, city=cities[0], name="Rue Haute")
    make(exact.Street, city=cities[1], name="Rue Haute", crosses=first)
    first.crosses = first
    first.save()
    common = {"catalogue": codes["catalogue"], "price": Decimal("9.50")}
    products = [
        make(exact.Product, sku=sku, ean=ean, token=uuid.UUID(int=ean), name=f"product {ean}")
        for sku, ean in (("1", 2), ("2", 1))
    ]
    make(exact.Offer, product=products[0], same=products[1], like=products[0], **common)
    make(exact.Offer, product=products[1], **common)
    root = make(exact.Folder, pk=80, name="root")
    inner = make(exact.Folder, pk=79, parent=root, name="root")
    make(exact.Folder, pk=78, parent=inner, name="leaf")
    comment = make(exact.Comment, pk=60, badge=codes["badges"][0])
    make(exact.Comment, pk=59, parent=comment)
    make(exact.Stage, pk=2, name="leaf", parent_id=3)
    make(exact.Stage, pk=3, name="root", parent_id=3)
    make(exact.Step, pk=2, parent_id=3)
    make(exact.Step, pk=3, parent_id=3)
    team = make(exact.Team, pk=5, name="reds")
    make(exact.Team, pk=6, name="blues")
    team.captain = make(exact.Player, pk=5, name="Pelé", team=team)
    team.save()
    ship = make(exact.Ship, pk=6)
    ship.captain = make(exact.Sailor, pk=5, ship=ship)
    ship.save()
    make(exact.Egg, pk=1, name="first", hen_id=2)
    make(exact.Hen, pk=2, name="Berta", egg_id=1)
    make(exact.Chicken, pk=1, rooster_id=2)
    make(exact.Rooster, pk=2, chicken_id=1)
    make(exact.Unsaved, code="u", cached=codes["badges"][0], counted=3)
    return cities


def _many_to_many(
    make: Make, codes: dict[str, Any], pks: dict[str, Any], cities: list[Any]
) -> list[Any]:
    ann, bob = (
        make(exact.Person, pk=pk, name=name) for pk, name in ((22, "Ann"), (21, TRICKY[:9]))
    )
    others = {
        "badges": codes["badges"],
        "comments": exact.Comment.objects.using(ann._state.db),
        "devices": pks["devices"],
        "countries": exact.Country.objects.using(ann._state.db),
    }
    eve = make(exact.Person, pk=2, name="Eve", friends=[ann, bob], follows=[ann], **others)
    bob.follows.set([eve, ann])
    team = exact.Team.objects.using(ann._state.db).get(name="reds")
    make(exact.Membership, person=eve, team=team, since=date(2020, 2, 29))
    make(exact.Membership, person=ann, team=team, since=date(999, 1, 1))
    for street in exact.Street.objects.using(ann._state.db):
        make(exact.Walk, person=eve, street=street)
    make(exact.Acquaintance, knowing=eve, known=ann)
    make(exact.Acquaintance, knowing=eve, known=eve)
    tie = exact.Person.badges.through.objects.using(ann._state.db).last()
    crowd = make(exact.Crowd, people=[bob, eve], tie=tie)
    make(exact.Crowd, rivals=[crowd])
    return [ann, bob, eve]


def _children(make: Make, people: list[Any], cities: list[Any]) -> None:
    make(exact.Place, pk=40, name="square")
    restaurant = make(exact.Restaurant, name="Chez Léon", stars=1, guests=people[:2])
    bistro = make(exact.Bistro, name="Petit", stars=0, menu="frites", guests=people)
    shop = make(exact.Shop, name="Shop", licence="L-1", city=cities[1])
    make(exact.Vehicle, pk=90, wheels=1)
    truck = make(exact.Truck, plate="T-1", wheels=6)
    lorry = make(exact.Lorry, plate="T-2", wheels=8, load=40)
    make(exact.Cart, wheels=2, horses=1)
    coach = make(exact.Coach, wheels=4, horses=2, doors=2)
    sun = make(exact.Planet, code="sun", name="The Sun")
    moon = make(exact.Moon, code="moon", name="The Moon", radius=1737.4, around=sun)
    make(exact.Car, plate="C-1")
    amphibian = make(exact.Amphibian, name="Duck", plate="C-2")
    landmark = make(exact.Landmark, name="Atomium", listing="M-1")
    make(exact.Visit, restaurant=restaurant)
    make(
        exact.Visit,
        restaurant=bistro,
        bistro=bistro,
        shop=shop,
        truck=truck,
        lorry=lorry,
        coach=coach,
        moon=moon,
        amphibian=amphibian,
        landmark=landmark,
        places=[restaurant.place_ptr, shop.place_ptr],
        coaches=[coach],
        lorries=[lorry],
    )


def _proxies(make: Make) -> None:
    author = make(exact.Author, name="Author")
    novelist = make(exact.Novelist, name="Novelist")
    make(exact.Celebrity, name="Celebrity")
    make(exact.Remark)
    make(exact.Book, title="Livre", author=author, editors=[novelist])
    make(exact.Book, title="Livre", author_id=novelist.pk)


def _keys(make: Make, people: list[Any], pks: dict[str, Any], cities: list[Any]) -> None:
    noon, night = time(12, 0), time(23, 59, 59, 999_000)
    for model in (exact.Moment, exact.Stamp):
        make(model, day=date(2024, 2, 29), time=noon, at=AT)
        make(model, day=date(1, 1, 1), time=night, at=AT.replace(microsecond=0))
    numbers = (("0.1", 1e22, 2**63 - 1, True), ("-10000000000000.000001", -0.0, 0, None))
    for amount, ratio, count, yes in (*numbers, ("0", 5e-324, -1, False)):
        make(exact.Measure, amount=Decimal(amount), ratio=ratio, count=count, exact=yes)
    first, second, _ = pks["devices"]
    make(exact.Beacon, token=uuid.UUID(int=2**128 - 1), other=uuid.UUID(int=0), device=first)
    make(exact.Beacon, token=uuid.UUID(int=10), device=second)
    for person, shift in zip(people, (*exact.Shift, "D"), strict=True):
        make(exact.Duty, shift=shift, grade=exact.Grade.HIGH, person=person)
    make(exact.Gap, pk=1)
    make(exact.Gap, pk=2, code="", number=0, city=cities[0])
    make(exact.Gap, pk=3, code="null", number=None)
    word = make(exact.Word, größe=TRICKY)
    make(exact.Word, größe="\\u00eb", model=word, fields=RECORD)
    make(exact.Word, größe="ë", model=word, fields=[{"größe": TRICKY}])


def _fields(make: Make, alias: str) -> None:
    make(
        exact.Everything,
        facts=JSON,
        upload="files/ä b.txt",
        blob=bytes(range(256)),
        lasts=timedelta(days=-1, microseconds=7),
        text=TRICKY,
        ratio=1.5e-7,
        amount=Decimal("12345678901234.000001"),
        address="::1",
        link="https://example.org/?a=1&b=%20",
        word=exact.Word.objects.using(alias).last(),
    )
    make(exact.Everything, facts=[JSON, None, True, 1e400 > 1, 10**30], upload="", text="")
    types = ContentType.objects.db_manager(alias)
    targets = (
        exact.Badge.objects.using(alias).last(),
        exact.Comment.objects.using(alias).last(),
        exact.Street.objects.using(alias).first(),
        exact.Lorry.objects.using(alias).get(),
    )
    for target in targets:
        kind = types.get_for_model(target)
        make(exact.Note, content_type=kind, object_id=target.pk, text="x")
        make(exact.Sticker, kind=kind, which=str(target.pk), code=f"on {kind.model}")
    make(exact.Note, text="on nothing")
    device, firmware = exact.Device(id=uuid.UUID(int=1 << 90)), exact.Firmware(id=uuid.UUID(int=7))
    for target in (device, firmware):
        make(exact.Pin, content_type=types.get_for_model(target), object_id=target.pk)
    for target in (exact.Country(iso="BE"), device):
        kind = types.get_for_model(target)
        make(exact.Sticker, kind=kind, which=str(target.pk), code=f"on {kind.model}")
    make(exact.Chapter, book="Zoë", number=1)
    make(exact.Verse, book="Zoë", number=1, text="a")
    if django.VERSION >= (5, 0):
        make(exact.Sum, net=21)
        make(exact.Sum, net=-4, currency="USD")
        make(exact.Term, since=date(2024, 2, 29))
        term = make(exact.Term, since=date(2024, 2, 29), until=date(2024, 3, 1))
        make(exact.Bill, total_id=42, term=term)
        make(exact.Bill, total_id=-8, term=term)


def _hidden(make: Make) -> None:
    secret = make(exact.Secret, pk=1, name="secret", hidden=True)
    make(exact.Hint, secret=secret)
    make(exact.Hint, secret=make(exact.Secret, pk=2, name="open"))
