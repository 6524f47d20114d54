"""Records of a backup in a private temporary file, found by what refers to them. No Django."""

from __future__ import annotations

import contextlib
import itertools
import json
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Self

import msgspec

from fastnk.decoding import deep_nesting, label_of
from fastnk.errors import BackupSyntaxError, OutputError
from fastnk.source import Source, split_records

CACHE_SIZE = 16 << 20
"""Bytes of the file that stay in memory."""

PK, NATURAL_KEY = "pk", "natural_key"

Kind = str | tuple[str, str] | type[Any]
"""Of names: a model's label with a field of it, or the class that makes keys; or a label alone."""

_CUT_OFF = "FNK205"

_INDEXES = (
    "records ON record (kind)",
    "names ON name (kind, value, supplied, number DESC)",
    "waiters ON waiter (kind, value)",
)


class Kept(NamedTuple):
    """A record that was kept."""

    number: int
    pk: str | None
    """JSON text as it stands in the backup, where the record tells it."""
    natural_key: str | None
    """JSON text, where the record tells it."""


class Waiter(NamedTuple):
    """A record whose name, of the kind `kind`, cannot be told before that of another one."""

    kind: int
    number: int


class KeptRecords:
    """The records of some models. Names are texts of a kind: the pk of a model, say.

    Of two records with one name the last one of the backup counts; those of further backups, which
    only supply keys, count where the backup has none.
    """

    def __init__(
        self, backups: Callable[[], Iterable[Iterable[bytes]]], proxies: Mapping[str, str]
    ) -> None:
        """`backups` gives the records of the backup, and of others, which supply keys to it.
        `proxies`: which model each proxy stands for."""
        self._backups = backups
        self._names: dict[str, Sequence[str]] = {}
        self._proxies = proxies
        self._kinds: dict[Kind, int] = {}
        # A database without a name is a private file, gone with the connection.
        self._file = sqlite3.connect("", isolation_level=None)
        self._file.executescript(f"""
            PRAGMA journal_mode = OFF;
            PRAGMA synchronous = OFF;
            PRAGMA cache_size = -{CACHE_SIZE >> 10};
            CREATE TABLE record (number INTEGER PRIMARY KEY, kind INTEGER, supplied INTEGER,
                                 pk TEXT, natural_key TEXT, body BLOB);
            CREATE TABLE name (kind INTEGER, value TEXT, supplied INTEGER, number INTEGER);
            CREATE TABLE waiter (kind INTEGER, value TEXT, waiting INTEGER, number INTEGER);
            BEGIN;
        """)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def keep(self, names: Mapping[str, Sequence[str]]) -> None:
        """Keep the records of more models.

        `names`: the models by label, and the fields by which their records are referred to besides
        the pk and the natural key. Reads all backups if one of them is new. Raises `OutputError`
        when there is no room, and what reading them raises.
        """
        new = names.keys() - self._names.keys()
        if not new:
            return
        self._names |= {label: names[label] for label in new}
        with no_room_is_an_error():
            for number, records in enumerate(self._backups()):
                for record in records:
                    label = label_of(record)
                    label = self._proxies.get(label, label)
                    if label in new:
                        self._keep(label, record, number > 0)
            # Built at the end, from sorted names: those that come in no order would be slow.
            for index in _INDEXES:
                self._file.execute(f"CREATE INDEX IF NOT EXISTS {index}")

    def _keep(self, label: str, record: bytes, supplied: bool) -> None:
        head = _head(record)
        pk = bytes(head.pk).decode()
        has_pk = pk not in ("", "null")
        key = None if head.natural_key is None else key_name(head.natural_key)
        cursor = self._file.execute(
            "INSERT INTO record (kind, supplied, pk, natural_key, body) VALUES (?, ?, ?, ?, ?)",
            (self.kind(label), supplied, pk if has_pk else None, key, record),
        )
        names = {field: head.fields.get(field) for field in self._names[label]}
        values = {field: json.loads(bytes(raw)) for field, raw in names.items() if raw is not None}
        values = {field: value for field, value in values.items() if value is not None}
        if has_pk:
            values[PK] = json.loads(pk)
        named = [((label, field), id_name(value)) for field, value in values.items()]
        if key is not None:
            named.append(((label, NATURAL_KEY), key))
        self._file.executemany(
            "INSERT INTO name VALUES (?, ?, ?, ?)",
            [(self.kind(kind), value, supplied, cursor.lastrowid) for kind, value in named],
        )

    def kind(self, what: Kind) -> int:
        """The number of a kind of names, or of a model's label."""
        return self._kinds.setdefault(what, len(self._kinds))

    def find(self, kind: Kind, name: str) -> int | None:
        """The number of the record that has `name`."""
        found = self._file.execute(
            "SELECT number FROM name WHERE kind = ? AND value = ?"
            " ORDER BY supplied, number DESC LIMIT 1",
            (self.kind(kind), name),
        ).fetchone()
        return None if found is None else int(found[0])

    def body(self, number: int) -> bytes:
        """A record as it stands in its backup."""
        (body,) = self._file.execute(
            "SELECT body FROM record WHERE number = ?", (number,)
        ).fetchone()
        return bytes(body)

    def numbers(self, label: str) -> Iterator[int]:
        """The numbers of all records of a model."""
        found = self._file.execute(
            "SELECT number FROM record WHERE kind = ? ORDER BY number", (self.kind(label),)
        )
        return (number for (number,) in found)

    def that_count(self, label: str) -> Iterator[Kept]:
        """The records of a model that count, in order: of those with a pk one each, and all
        others."""
        found = self._file.execute(
            "SELECT number, pk, natural_key FROM record WHERE kind = ? ORDER BY number",
            (self.kind(label),),
        )
        for record in itertools.starmap(Kept, found):
            pk = None if record.pk is None else id_name(json.loads(record.pk))
            if pk is None or self.find((label, PK), pk) == record.number:
                yield record

    def may_repeat_rows(self, label: str) -> bool:
        """Whether a record of a further backup may be one of the backup that says no pk."""
        found = self._file.execute(
            "SELECT count(*) > count(pk) AND max(supplied) FROM record WHERE kind = ?",
            (self.kind(label),),
        )
        return bool(found.fetchone()[0])

    def give_name(self, number: int, kind: Kind, name: str) -> list[Waiter]:
        """A name for a record beside those it stands there with; gives what waited for it."""
        self._file.execute(
            "INSERT INTO name SELECT ?, ?, supplied, number FROM record WHERE number = ?",
            (self.kind(kind), name, number),
        )
        waited_for = "FROM waiter WHERE kind = ? AND value = ?"
        place = (self.kind(kind), name)
        waiters = self._file.execute(f"SELECT waiting, number {waited_for}", place).fetchall()
        self._file.execute(f"DELETE {waited_for}", place)
        return [Waiter(*waiter) for waiter in waiters]

    def wait(self, kind: Kind, name: str, waiter: Waiter) -> None:
        """Put `waiter` by until a record gets `name`."""
        self._file.execute(
            "INSERT INTO waiter VALUES (?, ?, ?, ?)", (self.kind(kind), name, *waiter)
        )


def id_name(value: Any) -> str:
    """The name that an id makes: 5 and "5" are the same, as in the core."""
    if type(value) is int:
        return f'"{value}"'  # as below, without the encoder
    return json.dumps(value if isinstance(value, str) else json.dumps(value))


def key_name(value: Any) -> str:
    """The name that a natural key makes, which is its JSON text in ASCII."""
    return json.dumps(value)


def loads(record: bytes) -> Any:
    """A record decoded; nested deeper than Python's limit, too."""
    with deep_nesting():
        return json.loads(record)


def whole_records(source: Source) -> Iterator[bytes]:
    """The records of a backup; what is cut off counts up to there.

    Raises `BackupSyntaxError` and `SourceError`.
    """
    try:
        yield from split_records(source)
    except BackupSyntaxError as error:
        if error.code != _CUT_OFF:
            raise


@contextlib.contextmanager
def no_room_is_an_error() -> Iterator[None]:
    """Raises `OutputError` where a temporary file cannot be written."""
    try:
        yield
    except sqlite3.OperationalError as error:
        raise OutputError(
            f"cannot keep the records that natural keys are made of: {error}",
            remedy=f"make room in {tempfile.gettempdir()}, or set TMPDIR to another folder",
        ) from error


class _Head(msgspec.Struct):
    """What a record is found by."""

    pk: msgspec.Raw = msgspec.Raw()
    natural_key: Any = None
    fields: dict[str, msgspec.Raw] = {}


_HEAD = msgspec.json.Decoder(_Head)


def _head(record: bytes) -> _Head:
    try:
        return _HEAD.decode(record)
    except (msgspec.DecodeError, RecursionError):
        # What Python writes and reads, but msgspec does not: NaN, half a pair of surrogates.
        members = loads(record)
    fields = {name: _raw(value) for name, value in members.get("fields", {}).items()}
    pk = _raw(members["pk"]) if "pk" in members else msgspec.Raw()
    return _Head(pk, members.get("natural_key"), fields)


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(json.dumps(value).encode())
