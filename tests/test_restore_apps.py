"""Tables as packages for Django make them: of tags, translations, addresses and histories."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import django
import pytest

from tests.conftest import Project

SETTINGS = """
    import importlib.util
    if importlib.util.find_spec("pymysql") and not importlib.util.find_spec("MySQLdb"):
        import pymysql
        pymysql.install_as_MySQLdb()
    SECRET_KEY = "x"
    USE_TZ = True
    DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
    INSTALLED_APPS = ["django.contrib.contenttypes", "fastnk.django", "shop"]
    MIGRATION_MODULES = {{"contenttypes": None}}
    DATABASES = {{"default": {database!r}}}
"""
SHOP = """
    from uuid import uuid4
    from django.contrib.contenttypes.fields import GenericForeignKey
    from django.contrib.contenttypes.models import ContentType

    class Book(models.Model):
        code = models.CharField(max_length=10, unique=True)

        def natural_key(self):
            return (self.code,)

    class Tagging(models.Model):
        content_type = models.ForeignKey(ContentType, models.CASCADE)
        object_id = models.IntegerField()
        tagged = GenericForeignKey()
        tag = models.CharField(max_length=10)

        def natural_key(self):
            return (self.object_id,)

    class Shelf(models.Model):
        pass

    class ShelfText(models.Model):
        shelf = models.ForeignKey(Shelf, models.CASCADE)
        language = models.CharField(max_length=5)
        name = models.CharField(max_length=20)

        class Meta:
            unique_together = [("language", "shelf")]

    class Price(models.Model):
        book = models.ForeignKey(Book, models.CASCADE)
        currency = models.CharField(max_length=3)
        cents = models.IntegerField()

        class Meta:
            constraints = [
                models.UniqueConstraint(fields=["book", "currency"], name="one_price"),
            ]

    class Sale(models.Model):
        book = models.ForeignKey(Book, models.CASCADE)
        at = models.DateTimeField()
        cents = models.IntegerField()

        class Meta:
            unique_together = [("book", "at")]

    class Case(models.Model):
        number = models.IntegerField(unique=True)

        def natural_key(self):
            return (f"case {self.number}",)

    class Appeal(Case):
        court = models.CharField(max_length=20)
        joined = models.ForeignKey("self", models.CASCADE, null=True, related_name="+")

    class Opening(models.Model):
        at = models.DateTimeField(unique=True)
        note = models.CharField(max_length=10)

    class Ticket:
        def __init__(self, number):
            self.number = number

        def __str__(self):
            return f"T{self.number}"

        def __eq__(self, other):
            return str(self) == str(other)

        def __hash__(self):
            return hash(str(self))

        def __lt__(self, other):
            return self.number < getattr(other, "number", other)

        def __gt__(self, other):
            return self.number > getattr(other, "number", other)

    class TicketField(models.AutoField):
        def to_python(self, value):
            if value is None or isinstance(value, Ticket):
                return value
            return Ticket(int(str(value).removeprefix("T")))

        def from_db_value(self, value, expression, connection):
            return self.to_python(value)

        def get_prep_value(self, value):
            return None if value is None else self.to_python(value).number

    class Call(models.Model):
        id = TicketField(primary_key=True)
        name = models.CharField(max_length=10)
        back = models.ForeignKey("self", models.CASCADE, null=True)

    class Page(models.Model):
        text = models.CharField(max_length=10)
        cover = models.ForeignKey("Cover", models.CASCADE, null=True)
        seal = models.ForeignKey("Seal", models.CASCADE, null=True)

    class Cover(Page):
        colour = models.CharField(max_length=10)

    class Seal(models.Model):
        page = models.OneToOneField(Page, models.CASCADE, primary_key=True)
        wax = models.CharField(max_length=10)

    class Basket(models.Model):
        name = models.CharField(max_length=10, unique=True)
        books = models.ManyToManyField(Book)

    class Filling(models.Model):
        basket = models.ForeignKey(Basket, models.DO_NOTHING)
        book = models.ForeignKey(Book, models.DO_NOTHING)

        class Meta:
            managed = False
            db_table = "shop_basket_books"
            unique_together = [("basket", "book")]

    class Genre(models.Model):
        name = models.CharField(max_length=10, unique=True)

    class Film(models.Model):
        name = models.CharField(max_length=10, unique=True)
        genres = models.ManyToManyField(Genre)

    class Reader(models.Model):
        name = models.CharField(max_length=10, unique=True)
        books = models.ManyToManyField(Book, through="Loan")

    class Loan(models.Model):
        id = models.UUIDField(primary_key=True, default=uuid4)
        reader = models.ForeignKey(Reader, models.CASCADE)
        book = models.ForeignKey(Book, models.CASCADE)
        since = models.DateTimeField(auto_now_add=True)
        note = models.CharField(max_length=10, default="old")
        fee = models.IntegerField()

    class Known(models.Model):
        code = models.CharField(max_length=10)

        class Meta:
            managed = False
            db_table = "shop_known"

    class Told(models.Model):
        book = models.OneToOneField(Book, models.DO_NOTHING, primary_key=True)

        class Meta:
            managed = False
            db_table = "shop_told"

    class Twin(models.Model):
        code = models.CharField(max_length=10)

        class Meta:
            managed = False
            db_table = "shop_book"

    class Refund(models.Model):
        after = models.ForeignKey("self", models.DO_NOTHING, db_constraint=False)
        cents = models.IntegerField()
"""
TENANTS = """
    class Tenant(models.Model):
        id = models.UUIDField(primary_key=True)

    class Seat(models.Model):
        pk = models.CompositePrimaryKey("tenant", "number")
        tenant = models.ForeignKey(Tenant, models.CASCADE)
        number = models.IntegerField()
        code = models.CharField(max_length=10, unique=True)

    class Pass(models.Model):
        pk = models.CompositePrimaryKey("tenant", "number")
        tenant = models.ForeignKey(Tenant, models.CASCADE)
        number = models.IntegerField()

        def natural_key(self):
            return (f"pass {self.number}",)
"""
START = """
    import os
    os.environ["DJANGO_SETTINGS_MODULE"] = "settings"
    import django, fastnk
    django.setup()
    from django.contrib.contenttypes.models import ContentType
    from django.core.management import call_command
    from shop.models import *
    call_command("migrate", run_syncdb=True, verbosity=0)
    for code in ("x", "y", "b"):
        Book.objects.create(code=code)
    b = Book.objects.get(code="b")
"""
RESTORE = """
    def restored(records, **options):
        report = fastnk.restore(json.dumps(records).encode(), verify=True, **options)
        return [report.created, report.updated, report.unchanged]

    KEEP = fastnk.Policies(on_duplicate_key="keep")
"""


def record(label: str, pk: int, **fields: Any) -> dict[str, Any]:
    return {"model": label, "pk": pk, "fields": fields}


TYPES = [record("contenttypes.contenttype", 70, app_label="shop", model="book")]
BOOKS = [record("shop.book", 1, code="a"), record("shop.book", 2, code="b")]


@pytest.fixture
def shop(project: Project, engine: str, request: pytest.FixtureRequest) -> Project:
    """The project, with an empty database of its own."""
    if engine == "sqlite":
        database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "shop.sqlite3"}
    else:
        database = request.getfixturevalue(engine).make("shop")
    tenants = TENANTS if django.VERSION >= (5, 2) else ""
    project.write(SETTINGS.format(database=database), shop=SHOP + tenants)
    return project


def test_tags_whose_key_is_the_id_of_what_is_tagged(shop: Project) -> None:
    """Both books have two tags, so that the key tells nothing apart."""
    tags = [(1, "new"), (1, "red"), (2, "new"), (2, "red")]
    records = [*TYPES, *BOOKS] + [
        record("shop.tagging", pk, content_type=70, object_id=book, tag=tag)
        for pk, (book, tag) in enumerate(tags, start=1)
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    done = [restored({records!r}, policies=KEEP) for _ in range(2)]
    print(json.dumps([done, sorted([one.tagged.code, one.tag] for one in Tagging.objects.all())]))
    """
    )
    held = [["a", "new"], ["a", "red"], ["b", "new"], ["b", "red"]]
    assert done == [[[5, 0, 2], [0, 0, 7]], held]


def test_rows_that_say_nothing_are_told_by_what_refers_to_them(shop: Project) -> None:
    """All that there is to tell of a shelf is in the table of its translations."""
    shelves = [("en", "Old"), ("de", "Alt"), ("en", "Rare")]
    records = [record("shop.shelf", pk) for pk in (1, 2)] + [
        record("shop.shelftext", pk, shelf=1 + pk // 3, language=language, name=name)
        for pk, (language, name) in enumerate(shelves, start=1)
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    for pk, name in ((1, "Toys"), (2, "Rare")):
        ShelfText.objects.create(shelf=Shelf.objects.create(pk=pk), language="en", name=name)
    ShelfText.objects.create(shelf=Shelf.objects.create(pk=3), language="fr", name="Jouets")
    done = [restored({records!r}) for _ in range(2)]
    texts = [shelf.shelftext_set.values_list("name", flat=True) for shelf in Shelf.objects.all()]
    names = list(map(sorted, texts))
    print(json.dumps([done, sorted(names)]))
    """
    )
    assert done == [[[3, 0, 2], [0, 0, 5]], [["Alt", "Old"], ["Jouets"], ["Rare"], ["Toys"]]]


def test_columns_that_are_unique_together_tell_a_row_that_has_changed(shop: Project) -> None:
    prices = [(1, "EUR", 100), (2, "EUR", 200), (2, "USD", 300)]
    records = BOOKS + [
        record("shop.price", pk, book=book, currency=currency, cents=cents)
        for pk, (book, currency, cents) in enumerate(prices, start=1)
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    Price.objects.create(pk=1, book=b, currency="EUR", cents=999)
    Price.objects.create(pk=2, book=Book.objects.get(code="x"), currency="EUR", cents=1)
    done = [restored({records!r}) for _ in range(2)]
    Price.objects.filter(book=b, currency="USD").update(cents=301)
    done.append(restored({records!r}))
    held = Price.objects.order_by("book__code", "currency")
    print(json.dumps([done, [[one.book.code, one.currency, one.cents] for one in held]]))
    """
    )
    held = [["a", "EUR", 100], ["b", "EUR", 200], ["b", "USD", 300], ["x", "EUR", 1]]
    assert done == [[[3, 1, 1], [0, 0, 5], [0, 1, 4]], held]


def test_times_tell_no_row_by_themselves(shop: Project) -> None:
    """Backups cut them to milliseconds, of which several rows may be."""
    at = "2024-01-01T12:00:00.001Z"
    records = [
        *BOOKS,
        record("shop.sale", 2, book=2, at=at, cents=2),
        record("shop.opening", 2, at=at, note="late"),
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    from datetime import UTC, datetime
    for pk, note in ((1, "early"), (2, "late")):
        at = datetime(2024, 1, 1, 12, 0, 0, 1000 + pk, UTC)
        Sale.objects.create(pk=pk, book=b, at=at, cents=pk)
        Opening.objects.create(pk=pk, at=at, note=note)
    print(json.dumps([restored({records!r}) for _ in range(2)]))
    """
    )
    assert done == [[1, 0, 3], [0, 0, 4]]


def test_ids_that_the_database_lets_dangle_stay_and_no_new_row_gets_them(shop: Project) -> None:
    records = [
        record("shop.refund", 1, after=4, cents=1),
        record("shop.refund", 2, after=1, cents=2),
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    for pk in (1, 2, 3):
        Refund.objects.create(pk=pk, after_id=pk, cents=0)
    try:
        restored({records!r})
    except fastnk.FastnkError as error:
        refused = [one.code for one in error.findings], error.remedy
    stay = fastnk.Policies(on_unresolved="keep")
    done = [restored({records!r}, policies=stay) for _ in range(2)]
    held = {{row.cents: row for row in Refund.objects.filter(cents__gt=0)}}
    found = [held[1].after_id, held[2].after.cents, Refund.objects.filter(pk=4).exists()]
    print(json.dumps([refused, done, found]))
    """
    )
    remedy = "mend the backup or the database, or keep such ids: --on-unresolved keep"
    assert done == [[["FNK410"], remedy], [[2, 0, 0], [0, 0, 2]], [4, 1, False]]


@pytest.mark.skipif(django.VERSION < (5, 2), reason="composite pks came with Django 5.2")
def test_composite_pks_of_tenants(shop: Project) -> None:
    """Django gives a UUID within such a pk as the driver does; the other pk has a key that its
    method must make."""
    tenant = "426f64a5-6a7c-4243-989c-561b637ffb62"
    records = [
        {"model": "shop.tenant", "pk": tenant, "fields": {}},
        *(
            {"model": label, "pk": [tenant, 1], "fields": {"tenant": tenant, "number": 1, **more}}
            for label, more in (("shop.seat", {"code": "x"}), ("shop.pass", {}))
        ),
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    done = [restored({records!r}) for _ in range(2)]
    backup, schema = json.dumps({records!r}).encode(), schema_from_apps()
    natural = fastnk.LegacyBackupConverter(schema).convert_bytes(backup)
    done.append(restored(json.loads(natural)))
    done.append(fastnk.verify(backup, natural, schema).faithful)
    done.append(json.loads(natural)[-1]["natural_key"])
    print(json.dumps(done))
    """
    )
    assert done == [[3, 0, 0], [0, 0, 3], [0, 0, 3], True, ["pass 1"]]


def test_children_whose_keys_methods_make_of_their_parents(shop: Project) -> None:
    """In Django's own natural dump their records say no pk, and the key only in references."""
    records = [
        {
            "model": "shop.appeal",
            "fields": {"case_ptr": ["case 2"], "court": "high", "joined": ["case 2"]},
        },
        *({"model": "shop.case", "fields": {"number": number}} for number in (1, 2)),
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    done = [restored({records!r}) for _ in range(2)]
    appeal = Appeal.objects.get()
    print(json.dumps([done, appeal.number, appeal.joined == appeal, appeal.court]))
    """
    )
    assert done == [[[3, 0, 0], [0, 0, 3]], 2, True, "high"]


def test_numbers_of_rows_that_fields_show_as_objects(shop: Project) -> None:
    records = [
        record("shop.call", "T1", name="a", back="T3"),
        record("shop.call", "T3", name="b", back=None),
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    Call.objects.create(name="other")
    done = [restored({records!r}) for _ in range(2)]
    Call.objects.create(name="next")
    print(json.dumps([done, dict(Call.objects.values_list("name", "back__name"))]))
    """
    )
    names = {"a": "b", "b": None, "other": None, "next": None}
    assert done == [[[2, 0, 0], [0, 0, 2]], names]


def test_rows_without_keys_that_refer_to_what_goes_on_from_them(shop: Project) -> None:
    """Each needs a row whose pk is its own, or that of another one that needs it."""
    records = [
        record("shop.page", 1, text="a", cover=1, seal=2),
        record("shop.page", 2, text="b", cover=1, seal=3),
        record("shop.page", 3, text="c", cover=None, seal=3),
        record("shop.cover", 1, colour="red"),
        record("shop.seal", 2, wax="soft"),
        record("shop.seal", 3, wax="hard"),
    ]
    done = shop.run(
        START
        + RESTORE
        + f"""
    Page.objects.bulk_create(Page(text="other") for _ in range(5))
    done = [restored({records!r}) for _ in range(2)]
    found = Page.objects.exclude(text="other").order_by("text")
    found = list(found.values_list("text", "cover__text", "seal__page__text"))
    print(json.dumps([done, found, Page.objects.count()]))
    """
    )
    pages = [["a", "a", "b"], ["b", "a", "c"], ["c", None, "c"]]
    assert done == [[[6, 0, 0], [0, 0, 6]], pages, 8]


@pytest.mark.parametrize("is_said_twice", [True, False])
def test_a_table_of_links_that_is_a_model_as_well(shop: Project, is_said_twice: bool) -> None:
    """`inspectdb` makes such a model of each table, and `dumpdata` writes the links twice."""
    links = [
        record("shop.filling", 8, basket=1, book=2),
        record("shop.filling", 7, basket=1, book=1),
    ]
    records = [*BOOKS, record("shop.basket", 1, name="full", books=[2, 1])]
    records += links * is_said_twice
    done = shop.run(
        START
        + RESTORE
        + f"""
    Basket.objects.create(name="other").books.add(b)
    done = [restored({records!r}) for _ in range(2)]
    held = Filling.objects.values_list("basket__name", "book__code")
    print(json.dumps([done, sorted(held)]))
    """
    )
    new, told = (4, 5) if is_said_twice else (2, 3)
    assert done == [[[new, 0, 1], [0, 0, told]], [["full", "a"], ["full", "b"], ["other", "b"]]]


@pytest.mark.parametrize("sides", [("genre", "film"), ("film", "genre"), ("genre",)])
def test_a_table_of_links_that_fields_of_both_sides_use(
    shop: Project, sides: tuple[str, ...]
) -> None:
    """`dumpdata` writes such links twice, once from each side."""
    said = {
        "genre": [
            record("shop.genre", 5, name="crime", films=[2, 1]),
            record("shop.genre", 6, name="war", films=[1]),
        ],
        "film": [
            record("shop.film", 1, name="M", genres=[5, 6]),
            record("shop.film", 2, name="Z", genres=[5]),
        ],
    }
    records = [one for side in sides for one in said[side]]
    done = shop.run(
        START
        + RESTORE
        + f"""
    from django.db.models import ManyToManyField
    ManyToManyField(Film, through=Film.genres.through, related_name="+").contribute_to_class(
        Genre, "films"
    )
    m, z = (Film.objects.create(name=name) for name in "MZ")
    m.genres.add(Genre.objects.create(name="old"))
    if "film" not in {sides!r}:
        Film.objects.filter(pk=m.pk).update(id=1)
        Film.objects.filter(pk=z.pk).update(id=2)
    done = [restored({records!r}) for _ in range(2)]
    held = Film.objects.values_list("name", "genres__name")
    print(json.dumps([done[1], sorted(held)]))
    """
    )
    old = [] if "film" in sides else [["M", "old"]]
    held = sorted([["M", "crime"], ["M", "war"], ["Z", "crime"], *old])
    assert done == [[0, 0, len(records)], held]


def test_links_that_have_become_rows_of_a_model(shop: Project) -> None:
    """`loaddata` makes such rows as well, where their other fields have defaults."""
    records = [*BOOKS, record("shop.reader", 1, name="Anna", books=[2, 1])]
    loan = record("shop.loan", 1, reader=1, book=2, fee=3) | {"pk": str(UUID(int=1))}
    done = shop.run(
        START
        + RESTORE
        + f"""
    Loan.objects.create(reader=Reader.objects.create(name="Anna"), book=b, fee=7)
    refused = []
    for records in ({records!r}, {[*records, loan]!r}):
        try:
            restored(records)
        except fastnk.FindingsError as error:
            refused += [[one.code, one.what.partition(", ")[2]] for one in error.findings]
    done = [restored({records!r}, defaults={{"shop.loan.fee": 5}}) for _ in range(2)]
    held = Loan.objects.values_list("reader__name", "book__code", "note", "fee")
    print(json.dumps([refused, done, sorted(held)]))
    """
    )
    why = "but links that are rows of shop.loan: --default shop.loan.field=VALUE"
    held = [["Anna", "a", "old", 5], ["Anna", "b", "old", 7]]
    assert done == [[["FNK412", why]] * 2, [[1, 1, 1], [0, 0, 3]], held]


OF_A_VIEW = ["FNK411", "its table is a view, which shows rows of others"]


def restored_without(shop: Project, records: list[Any], view: str, held: str) -> Any:
    """What a dry run says of records, some of them of a view; how many rows are created without
    those, and what is `held` then."""
    return shop.run(
        START
        + RESTORE
        + f"""
    from django.db import connection
    with connection.cursor() as cursor:
        cursor.execute("CREATE VIEW {view} FROM shop_book")
    backup = json.dumps({records!r}).encode()
    try:
        fastnk.restore(backup, dry_run=True)
    except fastnk.FindingsError as error:
        said = [[one.code, one.what.partition(": ")[2]] for one in error.findings]
    report = fastnk.restore(backup, ignore_nonexistent=True)
    print(json.dumps([said, report.created, {held}]))
    """
    )


def test_rows_that_another_model_shows_are_not_restored_twice(shop: Project) -> None:
    """`dumpdata` writes the rows of unmanaged models as well: those of a view, or of a table that
    is another model's."""
    shown = [
        record(f"shop.{name}", pk, code=code)
        for name in ("known", "twin")
        for pk, code in ((1, "a"), (2, "b"))
    ]
    held = '[sorted(model.objects.values_list("code", flat=True)) for model in (Known, Twin)]'
    done = restored_without(shop, [*BOOKS, *shown], "shop_known AS SELECT id, code", held)
    twin = ["FNK411", "its table is that of shop.book, which has records as well"]
    assert done == [[OF_A_VIEW] * 2 + [twin] * 2, 1, [["a", "b", "x", "y"]] * 2]


def test_what_is_wrong_with_rows_of_views_is_not_asked(shop: Project) -> None:
    """Django's natural dumps leave out ids that a view has as its pks."""
    natural = [{"model": "shop.book", "fields": {"code": "a"}}, record("shop.told", 7)]
    view = "shop_told AS SELECT id AS book_id"
    assert restored_without(shop, natural, view, "Told.objects.count()") == [[OF_A_VIEW], 1, 4]


def test_a_model_of_the_table_of_another_is_restored_alone(shop: Project) -> None:
    records = [record("shop.twin", 1, code="c"), record("shop.twin", 2, code="d")]
    done = shop.run(
        START
        + RESTORE
        + f"""
    done = [restored({records!r}) for _ in range(2)]
    print(json.dumps([done, sorted(Twin.objects.values_list("code", flat=True))]))
    """
    )
    assert done == [[[2, 0, 0], [0, 0, 2]], ["b", "c", "d", "x", "y"]]
