"""MySQL and MariaDB: what they would do without a word, and what ends a transaction there."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import cached_property
from operator import itemgetter
from typing import Any, ClassVar, NamedTuple, Self

from django.db import DatabaseError
from django.db.models import Field, QuerySet

from fastnk.django.restore.engines.base import Engine, Texts, locked, tables_of
from fastnk.django.restore.statements import fitting, length_of
from fastnk.django.restore.streams import Columns, Stream
from fastnk.errors import RestoreError

LOCK = "CONCAT('fastnk.', SHA2(DATABASE(), 224))"
"""The name of the lock; names are the server's, and may have 64 characters."""

MODES = ("STRICT_ALL_TABLES", "NO_AUTO_VALUE_ON_ZERO")
"""Otherwise values are cut to fit their columns, and a pk 0 becomes another one."""

IDLE = 86_400
"""Seconds that the server bears without a statement, while a large backup is read."""

PAGE = 10_000
"""Rows that are read at once: the drivers hold the whole answer to a statement in memory."""

COMPARED = 500
"""Texts of which the server is asked something at once."""

WIDE = ("utf8mb4", "utf16", "utf16le", "utf32")
"""Character sets that have all characters."""

PACKET_IS_TOO_LARGE = {1153, 2006, 2013, 2020}
"""What becomes of it, in the words of the server, or of a driver whose connection is cut."""


class MySQL(Engine):
    OPTIONS: ClassVar[dict[str, Any]] = {
        "connect_timeout": 10,
        "read_timeout": 3600,  # as long as one statement may take
        "write_timeout": 60,
    }

    def __init__(self, connection: Any) -> None:
        super().__init__(connection)
        self._collations: dict[str, dict[str, Collation]] = {}

    @contextmanager
    def session(self) -> Iterator[None]:
        """InnoDB checks references row by row, and never again those it did not check: they are
        left to the check of all constraints before commit."""
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT @@sql_mode, @@foreign_key_checks, @@wait_timeout")
            mode, checks, idle = cursor.fetchone()
        session, features = self.connection.connection, self.connection.features
        zero = features.allows_auto_pk_0
        self._set(",".join([mode, *MODES]).lstrip(","), 0, max(idle, IDLE))
        features.allows_auto_pk_0 = True
        try:
            yield
        finally:
            features.allows_auto_pk_0 = zero
            if self.connection.connection is session:
                is_broken, self.connection.needs_rollback = self.connection.needs_rollback, False
                with suppress(DatabaseError):  # it is lost, and its settings with it
                    self._set(mode, checks, idle)
                    self._unlock()
                self.connection.needs_rollback = is_broken

    def _set(self, *values: Any) -> None:
        statement = "SET SESSION sql_mode = %s, foreign_key_checks = %s, wait_timeout = %s"
        with self.connection.cursor() as cursor:
            cursor.execute(statement, values)

    def lock(self) -> None:
        """The session holds it, and `session` gives it back behind the commit."""
        tables_of(self.connection)
        if not self._is_locked_within(0):
            raise locked("another restore")

    def _is_locked_within(self, seconds: float) -> bool:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT GET_LOCK({LOCK}, %s)", [seconds])
            return bool(cursor.fetchone()[0])

    def _unlock(self) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(f"SELECT RELEASE_LOCK({LOCK})")

    def wait_for_the_lost_session(self, patience: float) -> None:
        """It holds the lock of restores until it ends."""
        if not self._is_locked_within(patience):
            raise TimeoutError("the lost session has not ended")
        self._unlock()

    def create(self, table: str, columns: str) -> None:
        """By another connection: whatever creates a table commits."""
        with closing(self.connection.copy()) as other, other.cursor() as cursor:
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} ({columns}) ENGINE = InnoDB")

    def refuse_tables(self, names: Collection[str]) -> None:
        with self.connection.cursor() as cursor:
            cursor.execute(
                "SELECT table_name, engine FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND engine NOT IN"
                " (SELECT engine FROM information_schema.engines WHERE transactions = 'YES')"
            )
            found = [(name, engine) for name, engine in cursor.fetchall() if name in names]
        if found:
            listed = ", ".join(f"{name} ({engine})" for name, engine in sorted(found))
            raise RestoreError(
                f'tables of the database "{self.connection.alias}" take no part in transactions:'
                f" {listed}; nothing was written",
                remedy=f"ALTER TABLE {min(found)[0]} ENGINE = InnoDB, and so the others",
            )

    def stream(self) -> Stream:
        return PacketStream(self.connection, self._packet)

    def read(
        self, query: QuerySet[Any, Any], pk: Callable[[Any], Any] = itemgetter(0)
    ) -> Iterator[Any]:
        ordered = query.order_by("pk")
        rows = list(ordered[:PAGE])
        while rows:
            yield from rows
            rows = list(ordered.filter(pk__gt=pk(rows[-1]))[:PAGE]) if len(rows) == PAGE else []

    @cached_property
    def _packet(self) -> int:
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            return int(cursor.fetchone()[0])

    @property
    def longest_statement(self) -> int | None:
        return self._packet // 4  # each byte may have to be escaped, and SQL is around them

    def _highest_ever(self, model: Any) -> int:
        with self.connection.cursor() as cursor:
            if not self.connection.mysql_is_mariadb and self.connection.mysql_version >= (8,):
                cursor.execute("SET SESSION information_schema_stats_expiry = 0")
            cursor.execute(
                "SELECT auto_increment FROM information_schema.tables"
                " WHERE table_schema = DATABASE() AND table_name = %s",
                [model._meta.db_table],
            )
            (following,) = cursor.fetchone() or (None,)
        return (following or 1) - 1

    def _number_from(self, model: Any, highest: int) -> None:
        """By a row that is taken back: its number stays used, and every other way commits.

        The row need not be a good one. What it is refused for, and what its triggers do, is
        taken back as well.
        """
        quote = self.connection.ops.quote_name
        table, pk = quote(model._meta.db_table), quote(model._meta.pk.column)
        checks = ", check_constraint_checks = %s" if self.connection.mysql_is_mariadb else ""
        setting = f"SET SESSION sql_mode = %s{checks}"
        with self.connection.cursor() as cursor:
            cursor.execute("SELECT @@sql_mode")
            (mode,) = cursor.fetchone()
            cursor.execute("SAVEPOINT fastnk")
            cursor.execute(setting, ["NO_AUTO_VALUE_ON_ZERO", 0][: setting.count("%s")])
            with suppress(DatabaseError):
                cursor.execute(f"INSERT INTO {table} ({pk}) SELECT %s", [highest])
            cursor.execute("ROLLBACK TO SAVEPOINT fastnk")
            cursor.execute(setting, [mode, 1][: setting.count("%s")])

    def merges(self, field: Field[Any, Any]) -> Callable[[Texts], Texts] | None:
        collation = self._collation(field)
        if collation is None or (collation.is_binary and not collation.pads):
            return None

        def merged(values: Texts) -> Texts:
            known = list({value for value in values if isinstance(value, str)})
            weights = dict(zip(known, self._weights(known, collation), strict=True))
            return [
                Alike(value, weights[value]) if isinstance(value, str) else value
                for value in values
            ]

        return merged

    def loses(self, field: Field[Any, Any]) -> Callable[[Texts], Texts] | None:
        collation = self._collation(field)
        if collation is None or collation.charset in WIDE:
            return None
        expression = f"CONVERT(CONVERT(%s USING {collation.charset}) USING utf8mb4)"

        def made(values: Texts) -> Texts:
            # All character sets that a column can have begin with ASCII.
            others = list({one for one in values if isinstance(one, str) and not one.isascii()})
            known = dict(zip(others, self._asked(expression, others), strict=True))
            return [known.get(one, one) if isinstance(one, str) else one for one in values]

        return made

    def _collation(self, field: Field[Any, Any]) -> Collation | None:
        """How a column holds texts; `None` where it does not."""
        table = field.model._meta.db_table
        if table not in self._collations:
            with self.connection.cursor() as cursor:
                cursor.execute(
                    "SELECT column_name, character_set_name, collation_name"
                    " FROM information_schema.columns WHERE table_schema = DATABASE()"
                    " AND table_name = %s AND collation_name IS NOT NULL",
                    [table],
                )
                found = {column: Collation(*names) for column, *names in cursor.fetchall()}
            self._collations[table] = found
        return self._collations[table].get(field.column)

    def _weights(self, texts: list[str], collation: Collation) -> Iterator[bytes]:
        """What the server tells texts apart by."""
        text = f"CONVERT(%s USING {collation.charset})"
        if collation.pads:  # with spaces, so that those at the end do not count
            text = f"TRIM(TRAILING ' ' FROM {text})"
        return map(bytes, self._asked(f"WEIGHT_STRING({text} COLLATE {collation.name})", texts))

    def _asked(self, expression: str, texts: list[str]) -> Iterator[Any]:
        """What the server makes of each of the texts."""
        for chunk in fitting(texts, COMPARED, self.longest_statement, length_of):
            with self.connection.cursor() as cursor:
                cursor.execute(f"SELECT {', '.join([expression] * len(chunk))}", chunk)
                yield from cursor.fetchone()


class Collation(NamedTuple):
    """How a column tells texts apart."""

    charset: str
    name: str

    @property
    def is_binary(self) -> bool:
        return self.name.endswith("_bin")

    @property
    def pads(self) -> bool:
        """Whether texts are the same that differ in spaces at the end."""
        return "nopad" not in self.name and "_0900_" not in self.name


class Alike(str):
    """A text that equals those that its column holds for the same."""

    __slots__ = ("_weight",)
    _weight: bytes

    def __new__(cls, text: str, weight: bytes) -> Self:
        made = super().__new__(cls, text)
        made._weight = weight
        return made

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike) and self._weight == other._weight

    def __hash__(self) -> int:
        return hash(self._weight)


class PacketStream(Stream):
    """Says what may be wrong where a row is larger than the server takes."""

    def __init__(self, connection: Any, packet: int) -> None:
        super().__init__(connection)
        self._packet = packet

    def write(self, path: str, table: str, names: Sequence[str], columns: Columns) -> None:
        try:
            super().write(path, table, names, columns)
        except RestoreError as error:
            if error.__cause__ and set(error.__cause__.args[:1]) & PACKET_IS_TOO_LARGE:
                error.remedy = (
                    f"a row may be larger than max_allowed_packet of the server ({self._packet:,}"
                    " bytes): raise that; or the connection was lost"
                )
            raise
