"""What the records of a backup show without a schema, by their names and values."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from fastnk.errors import MAX_FIELDS
from fastnk.profile import Marks, Profile, Values, Verdict, told
from fastnk.schema import model_name

KEYED_BY_DJANGO = frozenset(
    ("contenttypes.contenttype", "auth.permission", "auth.group", "auth.user", "sites.site")
)
"""The models of Django itself that have a natural key."""

RIGHTS = {"groups": "auth.group", "user_permissions": "auth.permission"}
"""Fields of every model of users with rights, and what they refer to."""

COUNTING_WORDS = frozenset(("count", "level", "number", "order", "position", "priority", "version"))
"""Fields of these names hold plain numbers more often than ids of a model of that name."""

MAX_NAME_WORDS = 6
"""Of a field's name that many words may be the name of a model."""


class InferredProfile(Profile):
    """Judges without a schema, by what the backup itself shows.

    A field is a relation with natural keys when its values have the shape of keys (see
    `_FieldProfile`) and the rest does not speak against it (`_are_data`), a relation with ids when
    it is named after a model of the backup and holds ids of that model's kind. A model has a
    natural key when Django's own do, when records of it have no pk, or when a field named after it
    holds keys. In a backup that has records without pk, the other models are taken to have none,
    unless they are referred to by id and another model of their app has one: an app mostly gives
    keys to all models that others refer to.
    """

    def __init__(self) -> None:
        super().__init__()
        self._fields: dict[tuple[str, str], _FieldProfile] = defaultdict(_FieldProfile)
        self._pk_types: dict[str, set[type]] = defaultdict(set)
        self._text_pks = _Sample(MAX_TEXT_PKS)
        self._names: dict[str, list[str]] = {}

    def has_too_many(self, fields: Mapping[str, Any]) -> bool:
        return max(len(fields), len(self._fields)) > MAX_FIELDS

    def _add(self, model: str, pk: Any, fields: Mapping[str, Any]) -> None:
        if pk is not None:
            self._pk_types[model].add(type(pk))
        if isinstance(pk, str) and len(pk) <= MAX_ID_LENGTH:
            self._text_pks.add(pk)
        for name, value in fields.items():
            self._fields[model, name].add(value)

    def judge(self) -> Verdict:
        self._names = self._labels_by_name()
        keys = self._relations_with_keys()
        ids = self._relations_with_ids(keys)
        natural_records = any(r.with_natural_key or r.with_neither for r in self.models.values())
        if not natural_records and self._are_data(keys, ids):
            keys = {}
        keyed = self._keyed(keys)
        doubtful = self._doubtful(keyed, ids) if natural_records else Counter[str]()
        # Where no record goes without a pk, pks are what the backup was written with.
        legacy = {*keyed, *doubtful} if natural_records else {*keyed, *self.models}
        marks = Marks()
        models = self._reports()
        for label, report in models.items():
            report.keyed = True if label in keyed else None
            marks.add_record_counts(label, report, label in legacy)
        for (label, field), values in keys.items():
            marks.add_values(models[label], f"{label}.{field}", values, True)
        for (label, field), (target, values) in ids.items():
            marks.add_values(models[label], f"{label}.{field}", values, target in legacy)
        return Verdict(marks.format, models, [*marks.sentences(), *self._notes(marks, doubtful)])

    def _relations_with_keys(self) -> dict[tuple[str, str], Values]:
        found = {}
        for (label, field), profile in self._fields.items():
            values = profile.keys(field, self._text_pks)
            if values is not None:
                found[label, field] = values
        return found

    def _relations_with_ids(
        self, without: Collection[tuple[str, str]]
    ) -> dict[tuple[str, str], tuple[str, Values]]:
        found = {}
        for (label, field), profile in self._fields.items():
            kind = profile.id_type(self._text_pks)
            is_number = _last_word(field) in COUNTING_WORDS
            if kind is None or is_number or (label, field) in without:
                continue
            target = self._target(label, field)
            if target is not None and self._may_have_pks_of(target, kind):
                found[label, field] = (target, profile.ids())
        return found

    def _are_data(
        self,
        keys: Mapping[tuple[str, str], Values],
        ids: Mapping[tuple[str, str], tuple[str, Values]],
    ) -> bool:
        """Whether lists that look like keys are none, in a backup whose records all have pks: no
        field with such lists holds ids as well or is named after a model, and models that have
        keys in every project are referred to by ids."""
        if any(values.ids or self._target(*place) for place, values in keys.items()):
            return False
        return any(target in KEYED_BY_DJANGO for target, _ in ids.values())

    def _may_have_pks_of(self, label: str, kind: type) -> bool:
        seen = self._pk_types.get(label)
        return kind is int if seen is None else kind in seen

    def _target(self, label: str, field: str) -> str | None:
        """The model that `field` is named after: `….document` for `parent_document`. The groups
        and permissions of users are Django's, which a backup may leave out."""
        if field in RIGHTS and all((label, one) in self._fields for one in RIGHTS):
            return RIGHTS[field]
        app = label.partition(".")[0]
        words = field.split("_")[-MAX_NAME_WORDS:]
        for start in range(len(words)):
            name = "".join(words[start:])
            for each in (name, _singular(name)):
                labels = self._names.get(each, ())
                if len(labels) == 1:
                    return labels[0]
                if f"{app}.{each}" in self.models:
                    return f"{app}.{each}"
        return None

    def _labels_by_name(self) -> dict[str, list[str]]:
        # Most backups leave the content types out, though they refer to them by id.
        names: dict[str, list[str]] = {"contenttype": ["contenttypes.contenttype"]}
        for label in self.models:
            name = model_name(label)
            if label not in names.setdefault(name, []):
                names[name].append(label)
        return names

    def _keyed(self, keys: Iterable[tuple[str, str]]) -> set[str]:
        known = {label for label, r in self.models.items() if r.with_natural_key or r.with_neither}
        targets = {self._target(label, field) for label, field in keys}
        return known | KEYED_BY_DJANGO | {label for label in targets if label is not None}

    def _doubtful(
        self, keyed: Collection[str], ids: Mapping[tuple[str, str], tuple[str, Values]]
    ) -> Counter[str]:
        """Models with pks that may be legacy, each with how many ids refer to it."""
        apps = {label.partition(".")[0] for label in self.models if label in keyed}
        doubtful: Counter[str] = Counter()
        for target, values in ids.values():
            if target not in keyed and target.partition(".")[0] in apps:
                doubtful[target] += values.ids
        return +doubtful

    def _notes(self, marks: Marks, doubtful: Counter[str]) -> Iterator[str]:
        yield "there was no schema: relations and keys were inferred from names and values"
        yield from told(
            doubtful,
            "relation value",
            "taken for never converted, being ids of models with pks in apps with natural keys",
        )
        yield from told(
            marks.neutral,
            "record",
            "with a pk, of models taken to have no natural key since nothing here gives them one",
        )


MAX_TEXT_PKS = 50_000
MAX_ID_LENGTH = 255
MAX_SAMPLE = 32
MAX_PARTS = 16
MAX_KEY_DEPTH = 4
"""A longer or deeper list is not a natural key but data."""

DATA_WORDS = frozenset(
    ("args", "config", "data", "extra", "json", "list", "metadata", "params", "payload", "value")
)
"""A field whose name ends in one of these holds data, whatever its shape."""

KeyShape = tuple[Any, ...]
"""A tuple per list of a key, and in it `None` for each part that is no list."""


class _Sample:
    """The first few of the texts it is given."""

    __slots__ = ("_most", "_texts")

    def __init__(self, most: int) -> None:
        self._most = most
        self._texts: set[str] = set()

    def add(self, text: str) -> None:
        if len(self._texts) < self._most:
            self._texts.add(text)

    def within(self, other: _Sample) -> bool:
        """Whether there are any, and `other` has them all."""
        return bool(self._texts) and self._texts <= other._texts


class _Ids:
    """Single values of a field, which are ids if the field is a relation."""

    __slots__ = ("_sample", "ints", "odd", "texts")

    def __init__(self) -> None:
        self.ints = 0
        self.texts = 0
        self.odd = False
        """Whether some value cannot be an id: an empty or long text, 0, true, an object."""
        self._sample = _Sample(MAX_SAMPLE)

    @property
    def count(self) -> int:
        return self.ints + self.texts

    def add(self, value: Any) -> None:
        kind = type(value)
        if kind is str and 0 < len(value) <= MAX_ID_LENGTH:
            self.texts += 1
            self._sample.add(value)
        elif kind is int and value > 0:
            self.ints += 1
        else:
            self.odd = True

    def type(self, text_pks: _Sample) -> type | None:
        """The type of pk the values have; `None` when they are not ids. Texts must be pks that
        the backup has, since any field may hold texts."""
        if self.odd or bool(self.ints) == bool(self.texts):
            return None
        if self.ints:
            return int
        return str if self._sample.within(text_pks) else None


class _Shapes:
    """Whether lists all have one shape, and it is that of a natural key."""

    __slots__ = ("_shape", "count", "is_key")

    def __init__(self) -> None:
        self.count = 0
        self.is_key = False
        self._shape: KeyShape | None = None

    @property
    def parts(self) -> int:
        return 0 if self._shape is None else len(self._shape)

    def add(self, value: list[Any]) -> None:
        shape = _key_shape(value)
        if not self.count:
            self._shape = shape
            self.is_key = shape is not None and _has_text(value)
        elif self.is_key:
            self.is_key = shape == self._shape and _has_text(value)
        self.count += 1


class _FieldProfile:
    """The values of one field of one model: of which kind, and of which shape when lists.

    A natural key is a list that is never empty, always of one shape, with a text in it. A list
    of ids, or a JSON value, differs in length from record to record or is empty at times, or it
    has a plural name, or all its texts are pks of the backup. A list of natural keys has
    elements of one shape, and may be empty.
    """

    __slots__ = ("elements", "empty", "listed", "lists", "nulls", "single", "uneven")

    def __init__(self) -> None:
        self.nulls = 0
        self.single = _Ids()
        self.lists = _Shapes()
        self.elements = _Shapes()
        """The elements of lists that hold nothing but lists."""
        self.listed = _Ids()
        """The other elements of all other lists."""
        self.empty = False
        """Whether some list is empty."""
        self.uneven = False
        """Whether some list holds lists beside other values."""

    def add(self, value: Any) -> None:
        if value is None:
            self.nulls += 1
        elif type(value) is list:
            self._add_list(value)
        else:
            self.single.add(value)

    def keys(self, field: str, text_pks: _Sample) -> Values | None:
        """The values as those of a relation with natural keys; `None` when they are not."""
        if self.single.odd or _last_word(field) in DATA_WORDS:
            return None
        if self._holds_lists_of_keys():
            return Values(self.listed.count, self.elements.count, self.nulls)
        if self._holds_keys(field, text_pks):
            return Values(self.single.count, self.lists.count, self.nulls)
        return None

    def id_type(self, text_pks: _Sample) -> type | None:
        """The type of pk the values have if they are ids alone; else `None`."""
        if self.elements.count or self.uneven:
            return None
        if not self.lists.count:
            return None if self.empty else self.single.type(text_pks)
        return None if self.single.count or self.single.odd else self.listed.type(text_pks)

    def ids(self) -> Values:
        """The values as those of a relation with ids."""
        return Values(self.single.count + self.listed.count, 0, self.nulls)

    def _add_list(self, value: list[Any]) -> None:
        if not value:
            self.empty = True
            return
        self.lists.add(value)
        nested = [part for part in value if type(part) is list]
        if len(nested) == len(value):
            for part in nested:
                self.elements.add(part)
        else:
            self.uneven |= bool(nested)
            for part in value:
                if type(part) is not list:
                    self.listed.add(part)

    def _holds_lists_of_keys(self) -> bool:
        return self.elements.is_key and not (self.uneven or self.listed.odd or self.single.count)

    def _holds_keys(self, field: str, text_pks: _Sample) -> bool:
        if not self.lists.is_key or self.empty or _is_plural(field):
            return False
        # A key of several parts is not made of pks alone; a key of one part may well be the pk.
        all_pks = not self.uneven and self.listed.type(text_pks) is str
        return self.lists.parts == 1 or not all_pks


def _key_shape(value: list[Any], depth: int = MAX_KEY_DEPTH) -> KeyShape | None:
    if not depth or not 0 < len(value) <= MAX_PARTS:
        return None
    shape: list[KeyShape | None] = []
    for part in value:
        if type(part) is list:
            nested = _key_shape(part, depth - 1)
            if nested is None:
                return None
            shape.append(nested)
        elif type(part) is dict:
            return None
        else:
            shape.append(None)
    return tuple(shape)


def _has_text(value: list[Any]) -> bool:
    return any(_has_text(part) if type(part) is list else type(part) is str for part in value)


def _last_word(field: str) -> str:
    return field.rpartition("_")[2]


def _is_plural(field: str) -> bool:
    return field.endswith("s") and not field.endswith(("ss", "us", "is"))


def _singular(name: str) -> str:
    if name.endswith("ies"):
        return name[:-3] + "y"
    return name.removesuffix("s")
