"""What MySQL and MariaDB would do without a word, and what they cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connections, transaction
from django.db.models import signals

from fastnk.django.restore import existing
from fastnk.django.restore.engines import mysql as engine
from fastnk.django.restore.report import RestoreOptions
from fastnk.errors import FindingsError, RestoreError
from tests import databases
from tests import zoo as backups
from tests.project.zoo import models as zoo
from tests.test_restore import counts, keeper, keyed, load, record, refused
from tests.zoo import project_schema, put, rows, tables

ALIAS = "mysql_new"
SETTINGS = "SELECT @@sql_mode, @@foreign_key_checks, @@wait_timeout, IS_FREE_LOCK({})"


@pytest.fixture
def new(mysql: databases.MySQL) -> str:
    mysql.renew(ALIAS)
    return ALIAS


def asked(statement: str, alias: str = ALIAS) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


@contextmanager
def changed(table: str, there: str, back: str) -> Iterator[None]:
    """Another column or kind of a table for a while."""
    asked(f"ALTER TABLE {table} {there}")
    try:
        yield
    finally:
        asked("SET foreign_key_checks = 0")
        asked(f"DELETE FROM {table}")
        asked(f"ALTER TABLE {table} {back}")


@pytest.fixture
def lax(new: str) -> Iterator[str]:
    """A database whose sessions are not strict, as those of old servers are not."""
    options = connections[new].settings_dict["OPTIONS"]
    databases.close(new)
    connections[new].settings_dict["OPTIONS"] = {
        **options,
        "init_command": "SET sql_mode = ''",
    }
    yield new
    databases.close(new)
    connections[new].settings_dict["OPTIONS"] = options


def test_session_is_as_before(lax: str) -> None:
    settings = SETTINGS.format(engine.LOCK)
    before = asked(settings)
    assert before[0][:2] == ("", 1)
    load(lax, [keeper("Anna")])
    assert asked(settings) == before
    refused(lax, [keeper("anna")])
    assert asked(settings) == before
    with pytest.raises(FindingsError), transaction.atomic(using=lax):
        load(lax, [keeper("anna")])
    assert asked(settings) == before


def test_nothing_is_cut_although_the_server_would(lax: str) -> None:
    with changed("zoo_keeper", "MODIFY name varchar(5)", "MODIFY name varchar(50) NOT NULL"):
        before = tables(lax)
        with pytest.raises(RestoreError, match="too long"):
            load(lax, [keeper("Anna"), keeper("Annabella")])
        assert tables(lax) == before
        assert load(lax, [keeper("Anna")]).created == 1


def test_tables_without_transactions_are_refused(new: str) -> None:
    asked("SET foreign_key_checks = 0")
    with changed("zoo_event", "ENGINE = MyISAM", "ENGINE = InnoDB"):
        event = record("zoo.event", 1, uuid="00000000-0000-0000-0000-000000000001", text="")
        for dry_run in (False, True):
            with pytest.raises(RestoreError, match=r"transactions: zoo_event \(MyISAM\)"):
                load(new, [keeper("Anna"), event], dry_run=dry_run)
        assert not rows(zoo.Event, new).exists()
        assert load(new, [keeper("Anna")]).created == 1


def test_characters_that_a_column_does_not_have(new: str) -> None:
    narrow = "MODIFY name varchar(50) CHARACTER SET {} NOT NULL"
    records = [keeper("Anna"), keeper("Béla"), keeper("Ανδρέας"), keeper("🦁")]
    whole = narrow.format("utf8mb4")
    with changed("zoo_keeper", narrow.format("utf8mb3"), whole):
        assert refused(new, records) == [("FNK413", 4, "name")]
        assert load(new, records[:3]).created == 3
    with changed("zoo_keeper", narrow.format("latin1"), whole):
        assert refused(new, records) == [("FNK413", 3, "name"), ("FNK413", 4, "name")]
        assert load(new, records[:2]).created == 2
    assert load(new, records).created == 4
    assert {row.name for row in rows(zoo.Keeper, new)} == {"Anna", "Béla", "Ανδρέας", "🦁"}


@pytest.mark.parametrize("most_read", [0, 50_000])
def test_characters_that_a_column_with_rows_does_not_have(
    new: str, monkeypatch: pytest.MonkeyPatch, most_read: int
) -> None:
    """Nor can the server be asked for rows that have them."""
    monkeypatch.setattr(existing, "MOST_READ", most_read)
    narrow = "MODIFY name varchar(50) CHARACTER SET {} NOT NULL"
    with changed("zoo_keeper", narrow.format("latin1"), narrow.format("utf8mb4")):
        assert load(new, [keeper("Anna"), keeper("Zoë")]).created == 2
        records = [keeper("Zoë"), keeper("Béla"), keeper("Ανδρέας"), keeper("ANNA")]
        assert refused(new, records) == [("FNK413", 3, "name"), ("FNK418", 4, "name")]
        report = load(new, records[:2])
        assert (report.created, report.unchanged) == (1, 1)


def test_numbers_without_a_sign(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a `PositiveBigIntegerField` has them, here alone above those with one."""
    small = zoo.Vault._meta.get_field("small")
    monkeypatch.setattr(small, "get_internal_type", lambda: "PositiveBigIntegerField")
    numbers = [0, 2**63 - 1, 2**63, 2**64 - 1, -1, 2**64]
    pairs = zip("abcdef", numbers, strict=True)
    records = [keyed("zoo.vault", name, name=name, small=number) for name, number in pairs]
    there, back = "MODIFY small bigint unsigned NOT NULL", "MODIFY small smallint NOT NULL"
    with changed("zoo_vault", there, back):
        found = refused(new, records, schema=project_schema())
        assert found == [("FNK413", 5, "small"), ("FNK413", 6, "small")]
        assert load(new, records[:4], project_schema()).created == 4
        assert load(new, records[:4], project_schema()).unchanged == 4
        assert sorted(row.small for row in rows(zoo.Vault, new)) == numbers[:4]


def test_pks_and_keys_that_columns_hold_for_the_same(new: str) -> None:
    states = [record("zoo.status", code, title="") for code in ("WELL", "well", "ILL ", "ILL")]
    found = refused(new, states, schema=project_schema())
    assert found == [("FNK418", 2, "code"), ("FNK418", 4, "code")]
    put(new, zoo.Status, code="Well", title="")
    assert refused(new, states[:1], schema=project_schema()) == [("FNK418", 1, "code")]


def test_column_that_tells_letters_apart(new: str) -> None:
    binary = "MODIFY name varchar(50) COLLATE utf8mb4_{} NOT NULL"
    names = [keeper("Anna"), keeper("anna"), keeper("Anna ")]
    whole = binary.format("general_ci")
    with changed("zoo_keeper", binary.format("bin"), whole):
        assert refused(new, names) == [("FNK418", 3, "name")]  # spaces at the end do not count
        assert load(new, names[:2]).created == 2
    with changed("zoo_keeper", binary.format("unicode_ci"), whole):
        assert refused(new, [keeper("Straße"), keeper("STRASSE")]) == [("FNK418", 2, "name")]


@pytest.fixture
def welcoming() -> Iterator[None]:
    """A receiver that creates a row for each keeper, in the keeper's database."""

    def welcome(sender: Any, instance: Any, using: str, **more: Any) -> None:
        zoo.Memo.objects.using(using).create(text=f"welcome {instance.name}")

    signals.post_save.disconnect(zoo.welcome, zoo.Keeper)
    signals.post_save.connect(welcome, zoo.Keeper)
    yield
    signals.post_save.disconnect(welcome, zoo.Keeper)
    signals.post_save.connect(zoo.welcome, zoo.Keeper)


@pytest.mark.usefixtures("welcoming")
def test_rows_that_receivers_create_take_no_reserved_pk(new: str) -> None:
    records = [keeper("Anna"), keeper("Bela")]
    records += [record("zoo.memo", 1, text="mine"), record("zoo.memo", 2, text="mine", parent=1)]
    put(new, zoo.Memo, id=1, text="other")
    load(new, records, options=RestoreOptions(signals=True))
    texts = sorted(row.text for row in rows(zoo.Memo, new))
    assert texts == ["mine", "mine", "other", "welcome Anna", "welcome Bela"]
    highest = max(row.pk for row in rows(zoo.Memo, new))
    assert zoo.Memo.objects.using(new).create(text="next").pk > highest


def test_no_pk_of_a_row_that_is_gone_is_given_again(new: str) -> None:
    put(new, zoo.Tag, id=1, label="first")
    put(new, zoo.Tag, id=90, label="gone")
    rows(zoo.Tag, new).filter(id=90).delete()
    load(new, [record("zoo.tag", 1, label="other")])
    assert rows(zoo.Tag, new).get(label="other").pk == 91


def test_existing_rows_are_read_by_pages(new: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with databases.at_once(new):
        backups.fill(new)
    backup = backups.legacy(new)
    load(new, backup)
    whole = load(new, backup)
    for page in (1, 2, 3):
        monkeypatch.setattr(engine, "PAGE", page)
        paged = load(new, backup)
        assert counts(paged) == counts(whole)
        assert paged.unchanged == len(backup)


@pytest.fixture
def packet(new: str) -> Iterator[int]:
    """A server that takes statements of no more than a megabyte."""
    before = asked("SELECT @@max_allowed_packet")[0][0]
    asked("SET GLOBAL max_allowed_packet = 1048576")
    databases.close(new)
    yield 1 << 20
    asked(f"SET GLOBAL max_allowed_packet = {before}")
    databases.close(new)


def vaults(text: str, count: int) -> list[dict[str, Any]]:
    return [
        {"model": "zoo.vault", "pk": n, "fields": {"name": f"v{n}", "data": {"text": text}}}
        for n in range(1, count + 1)
    ]


def test_many_large_rows_are_written_and_changed(new: str, packet: int) -> None:
    schema = project_schema()
    for text in ("'" * (packet // 10), '"' * (packet // 10)):
        load(new, vaults(text, 30), schema)
        assert {row.data["text"] for row in rows(zoo.Vault, new)} == {text}


def test_row_that_is_larger_than_the_server_takes(new: str, packet: int) -> None:
    with pytest.raises(RestoreError, match=r"zoo\.vault") as caught:
        load(new, [keeper("Anna"), *vaults("x" * packet, 1)], project_schema())
    assert "max_allowed_packet" in str(caught.value)
    assert not rows(zoo.Keeper, new).exists()
