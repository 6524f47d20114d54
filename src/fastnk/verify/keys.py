"""The rows that something refers to, and the natural keys made of them."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from fastnk.schema import GenericRelation, Schema, plain_label
from fastnk.verify.needs import Id
from fastnk.verify.plan import KeyPlan, Proxy, Route
from fastnk.verify.reading import Entry
from fastnk.verify.report import CODES
from fastnk.verify.values import DECODER, MISSING, Number, digest, has_null, id_text, spelled


class Target(NamedTuple):
    """What an id refers to."""

    label: str
    field: str | None = None
    """`None` for the pk."""
    proxy: Proxy = None
    policy: str = "on_unresolved"
    """The policy for an id that no record has."""
    by_pk: bool = False
    """Whether the id is the pk of the record that refers, which cannot become null."""


class UnmadeError(Exception):
    """A natural key that cannot be made: something on its way is not there."""


class LogMetError(Exception):
    """A generic relation is used, so that any row may be meant."""


class Doubt(NamedTuple):
    """Why a reference cannot be faithful whatever was written."""

    code: str
    what: str


NO_RECORD = Doubt("FNK508", "no record has this id")
NO_KEY = Doubt("FNK508", "the record with this id has no natural key that can be made")
NO_KEY_ELSEWHERE = Doubt("FNK508", "the record of another backup has no natural key to refer to it")
LOST = (NO_RECORD, NO_KEY_ELSEWHERE)
"""Of an id that no record of use has."""
SHARED = Doubt("FNK505", CODES["FNK505"])
AMBIGUOUS = Doubt("FNK510", CODES["FNK510"])

Row = tuple[Any, ...]
"""The natural key that the record states, if it does, then its columns."""


class RowOfKeys(tuple[Any, ...]):
    """A row of a backup that only supplies keys."""

    __slots__ = ()


class Rows:
    """The rows that something refers to, by id, and the natural keys made of them."""

    def __init__(
        self, schema: Schema, *, embedded: bool, null_keys: bool, for_logs: bool = False
    ) -> None:
        self._schema = schema
        self._proxies = schema.proxies
        self._null_keys = null_keys
        """Whether keys with a null in them may stand for rows of backups that supply keys."""
        self._plan = KeyPlan(schema, embedded=embedded, for_logs=for_logs)
        self._tables: dict[str, dict[str, dict[str, Row]]] = {
            label: {field: {} for field in fields} for label, fields in self._plan.tables.items()
        }
        """By label and field: the rows by the text of the id."""
        self._unnumbered: dict[str, list[Row]] = {}
        """Rows that no id leads to, but whose natural keys count …"""
        self._gone: dict[str, list[Row]] = {}
        """… but for those of records that are left out."""
        self._ambiguous: dict[tuple[str, str, str | None], int | None] = {}
        """The ids that several records have, and the number of the one that they mean; `None` for
        one of a backup that only supplies keys."""
        self._pk_parts = {label: self._plan.pk_part(label) for label in self._tables}
        self._only_in_keys: set[tuple[str, str]] = set()
        """By label: the pks that are told by a natural key, and by no record as its pk."""
        self._shared: dict[tuple[str, Proxy], set[bytes]] = {}
        self._called: dict[tuple[str, str], dict[str, str]] = {}
        """What methods made, as JSON: by label and method, then by the text of the pk."""

    def is_keyed(self, label: str) -> bool:
        """Whether the schema gives records of this model natural keys."""
        return self._plan.is_keyed(label)

    # -- rows --

    def add(self, entry: Entry, *, only_keys: bool) -> None:
        """Take a record of the backup in, or one of a backup that only supplies keys.

        Raises `LogMetError` for a record that may refer to rows which were not kept.
        """
        if not (self._plan.expects_logs or only_keys) and self._is_in_log(entry):
            raise LogMetError
        tables = self._tables.get(entry.label)
        if tables is None:
            return
        row = RowOfKeys(self.row(entry)) if only_keys else self.row(entry)
        pk = self._schema.models[entry.label].pk
        beside = [] if only_keys else [row]
        for field, table in tables.items():
            id_ = id_text(self._value(entry, field))
            found = None if id_ is None else table.get(id_)
            if id_ is None or (only_keys and not self._overrules(entry.label, row, found)):
                continue
            which = (entry.label, id_)
            is_weak = field == pk and which in self._only_in_keys
            if field == pk and self._tells_pk(entry):
                if found is not None:
                    continue
                self._only_in_keys.add(which)
            elif is_weak:
                self._only_in_keys.discard(which)
            table[id_] = row
            if found is not None and not is_weak:
                self._ambiguous[entry.label, field, id_] = None if only_keys else entry.number
            if field == pk:
                beside = [] if found is None or only_keys else [found]
        if beside:
            self._unnumbered.setdefault(entry.label, []).extend(beside)

    def _is_in_log(self, entry: Entry) -> bool:
        model = self._schema.models.get(entry.label)
        return model is not None and any(
            entry.fields.get(generic.object_id) is not None
            for generic in model.generic_relations.values()
        )

    def _overrules(self, label: str, row: Row, found: Row | None) -> bool:
        """Whether a row that only supplies keys counts, and not the one found with its id: that of
        the backup does, and of two others the last, if they do not say the same."""
        if not isinstance(found, RowOfKeys):
            return found is None
        pk = self._plan.columns[label].get(self._schema.models[label].pk)
        return any(
            isinstance(one, list) == isinstance(other, list) and one != other
            for column, (one, other) in enumerate(zip(row, found, strict=True))
            if column and not (column == pk and MISSING in (one, other))
        )

    def ids_of(self, entry: Entry) -> list[Id]:
        """The ids that lead to a record."""
        tables = self._tables.get(entry.label, {})
        row = self.row(entry) if tables else ()
        return [
            (entry.label, field, id_)
            for field, table in tables.items()
            if (id_ := self._id_that_means(entry, field)) is not None and table.get(id_) == row
        ]

    def remove(self, entry: Entry) -> bool:
        """Take out the row of a record that is left out; whether it was there. To be called once
        for each."""
        found = self.ids_of(entry)
        for label, field, id_ in found:
            del self._tables[label][field][id_]
        if entry.label in self._tables:
            pk = self._schema.models[entry.label].pk
            if self._id_that_means(entry, pk) is None:
                self._gone.setdefault(entry.label, []).append(self.row(entry))
        return bool(found)

    def id_of(self, target: Target, value: Any) -> Id | None:
        """The id by which a reference finds its record."""
        id_ = id_text(value)
        name = self._schema.field_name(target.label, target.field or "pk")
        return None if id_ is None else (target.label, name, id_)

    def _id_that_means(self, entry: Entry, field: str) -> str | None:
        """The id by which a record is found; `None` where it has none, or a later one has it."""
        id_ = id_text(self._value(entry, field))
        last = self._ambiguous.get((entry.label, field, id_), entry.number)
        return id_ if last == entry.number else None

    def row(self, entry: Entry) -> Row:
        columns = self._plan.columns[entry.label]
        return (entry.members.get("natural_key"), *(self._value(entry, name) for name in columns))

    def _value(self, entry: Entry, name: str) -> Any:
        if name == self._schema.models[entry.label].pk:
            pk = entry.members.get("pk")
            if pk is None:
                pk = self._pk_in_key(entry)
            if pk is not None or "pk" in entry.members:
                return pk
        return entry.fields.get(name, MISSING)

    def _tells_pk(self, entry: Entry) -> bool:
        """Whether a record has no pk, but a natural key with it."""
        return entry.members.get("pk") is None and self._pk_in_key(entry) is not None

    def _pk_in_key(self, entry: Entry) -> Any:
        """What the natural key that a record states tells of its pk."""
        key, part = entry.members.get("natural_key"), self._pk_parts.get(entry.label)
        if part is None or not isinstance(key, list) or part >= len(key):
            return None
        return key[part]

    def methods(self) -> set[tuple[str, str]]:
        """The methods that make keys, each with the label of the model of those."""
        makers = self._plan.makers.items()
        return {(label, maker) for (label, _), maker in makers if isinstance(maker, str)}

    def add_called(self, label: str, method: str, pk: str, key: str) -> None:
        """Take in a key that a method made; both are JSON."""
        text = _pk_text(DECODER.decode(pk))
        if text is not None:
            self._called.setdefault((label, method), {})[text] = key

    def find_shared_keys(self) -> None:
        """To be called when all rows are in: which natural keys stand for several of them."""
        for which in self._plan.makers:
            seen: set[bytes] = set()
            for one in self._digests(*which):
                if one in seen:
                    self._shared.setdefault(which, set()).add(one)
                seen.add(one)
        self._unnumbered.clear()

    def _digests(self, label: str, proxy: Proxy) -> Iterator[bytes]:
        """Of the natural keys of all rows of a model."""
        if label not in self._tables:
            return
        for row in self._tables[label][self._schema.models[label].pk].values():
            with contextlib.suppress(UnmadeError):
                yield digest(self.key(label, row, proxy))
        gone = Counter(self._digests_of(label, self._gone.get(label, ()), proxy))
        for one in self._digests_of(label, self._unnumbered.get(label, ()), proxy):
            if gone[one]:
                gone[one] -= 1
            else:
                yield one

    def _digests_of(self, label: str, rows: Iterable[Row], proxy: Proxy) -> Iterator[bytes]:
        for row in rows:
            with contextlib.suppress(UnmadeError):
                key = self.key(label, row, proxy)
                if not has_null(key):
                    yield digest(key)

    # -- keys --

    def key(self, label: str, row: Row, proxy: Proxy = None) -> list[Any]:
        """The natural key of a row. Raises `UnmadeError`."""
        stated = row[0]
        if proxy is None and isinstance(stated, list):
            return stated
        maker = self._plan.makers[label, proxy]
        if isinstance(maker, str):
            return self._called_key(label, maker, row)
        return self._made(maker, row)

    def own_key(self, entry: Entry) -> list[Any] | None:
        """The natural key of a record of the backup; `None` where it has none."""
        if entry.key is MISSING:
            entry.key = None
            if self.is_keyed(entry.label):
                with contextlib.suppress(UnmadeError):
                    entry.key = self.key(entry.label, self.row(entry))
        key: list[Any] | None = entry.key
        return key

    def _called_key(self, label: str, method: str, row: Row) -> list[Any]:
        pk = _pk_text(row[self._plan.column(label, "pk")])
        text = self._called.get((label, method), {}).get(pk) if pk is not None else None
        if text is None:
            raise UnmadeError
        key = DECODER.decode(text)
        assert isinstance(key, list)
        return key

    def find(self, target: Target, value: Any) -> tuple[Any, Doubt | None]:
        """The natural key of the record that an id leads to, and what speaks against it."""
        label, _, proxy, *_ = target
        id_ = self.id_of(target, value)
        row = None if id_ is None else self._tables[label][id_[1]].get(id_[2])
        if row is None:
            return None, NO_RECORD
        elsewhere = isinstance(row, RowOfKeys)
        if (label, proxy) not in self._plan.makers:
            return None, NO_KEY
        try:
            key = self.key(label, row, proxy)
        except UnmadeError:
            return None, NO_KEY_ELSEWHERE if elsewhere else NO_KEY
        if elsewhere and not self._null_keys and has_null(key):
            return None, NO_KEY_ELSEWHERE
        shared = self._shared.get((label, proxy))
        if shared and digest(key) in shared:
            return key, SHARED
        return key, AMBIGUOUS if id_ in self._ambiguous else None

    def _found(self, label: str, field: str, value: Any) -> Row | None:
        id_ = id_text(value)
        return None if id_ is None else self._tables[label][field].get(id_)

    def generic_target(self, label: str, generic: GenericRelation, value: Any) -> str | None:
        """The model that a content type (an id or a natural key) or a text stands for."""
        if generic.content_type is None:
            text = id_text(value) or ""
            return self._known(generic.labels.get(text) or plain_label(text))
        if not isinstance(value, list):
            relation = self._schema.models[label].relations[generic.content_type]
            row = self._found(*self._plan.table(relation.to, relation.to_field), value)
            columns = self._plan.columns[relation.to]
            value = [row[columns["app_label"]], row[columns["model"]]] if row else []
        if len(value) != 2 or not all(isinstance(part, str) for part in value):
            return None
        return self._known(".".join(value))

    def _known(self, label: str) -> str | None:
        """The model that a label or that of a proxy means."""
        label = self._proxies.get(label, label)
        return label if label in self._schema.models else None

    def _made(self, parts: list[Any], row: Row) -> list[Any]:
        return [
            self._part(part, row) if isinstance(part, Route) else self._made(part, row)
            for part in parts
        ]

    def _part(self, route: Route, row: Row) -> Any:
        for hop in route.hops:
            value = row[hop.column]
            if value is None or value is MISSING:
                return None
            if isinstance(value, list):
                return _transformed(_standing_at(hop.place, value), hop.transform)
            found = self._found(*hop.table, value)
            if found is None:
                raise UnmadeError
            row = found
        value = row[route.column]
        return None if value is MISSING else _transformed(value, route.transform)


def _standing_at(place: tuple[int, ...], key: Any) -> Any:
    if not place:
        raise UnmadeError
    for number in place:
        if not isinstance(key, list) or number >= len(key):
            raise UnmadeError
        key = key[number]
    return key


def _transformed(value: Any, transform: str | None) -> Any:
    if transform == "str":
        return _as_str(value)
    if transform == "isoformat" and isinstance(value, str):
        return _as_isoformat(value)
    return value


def _as_str(value: Any) -> str:
    """What `str()` gives in Python for a value that Django wrote."""
    if isinstance(value, Number):
        return value.text
    if isinstance(value, (list, dict)):
        raise UnmadeError
    return value if isinstance(value, str) else str(value)


_TIME = re.compile(r"(?P<start>[^.]*?)(?:\.(?P<fraction>\d+))?(?P<zone>Z|[+-]\d\d:?\d\d)?")


def _as_isoformat(text: str) -> str:
    """What `isoformat()` gives for a time that Django wrote."""
    parts = _TIME.fullmatch(text)
    if parts is None:
        return text
    fraction = (parts["fraction"] or "").ljust(6, "0")[:6]
    zone = parts["zone"] or ""
    return (
        parts["start"]
        + (f".{fraction}" if fraction.strip("0") else "")
        + ("+00:00" if zone == "Z" else zone)
    )


def _pk_text(value: Any) -> str | None:
    """The text by which pks are compared, composite ones among them."""
    return spelled(value, canonical=True) if isinstance(value, list) else id_text(value)
