"""Renames in what a backup holds: names of members, and values that name models.

Content types, permissions and the keys that pass through them name models, and so do fields that
the schema declares as labels. Everything else follows from the names of models and fields, which
are looked up once for each shape of records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec
from django.apps import apps
from msgspec import UNSET
from msgspec.structs import astuple

from fastnk.django.restore.values import REFUSALS, converted, end_of
from fastnk.errors import did_you_mean
from fastnk.renames import RenameError, Renames, unused
from fastnk.schema import Schema, model_name

CONTENT_TYPE = "contenttypes.contenttype"
PERMISSION = "auth.permission"

Data = dict[str, Any]
"""A record as JSON has it."""
Path = tuple[str, ...]


class Naming:
    """What the records of one backup are called today."""

    def __init__(self, renames: Renames, schema: Schema) -> None:
        self.renames = renames
        self._records: Counter[str] = Counter()
        """By label in the backup."""
        self._held: Counter[str] = Counter()
        """How many records have a field that matters here, by label and name in the backup."""
        self._with_pk: set[str] = set()
        """The same fields, where a record has its pk beside them."""
        self._mentioned: set[str] = set()
        """The old labels that values of the backup mention."""
        self._pks = {label: model.pk for label, model in schema.models.items()}
        self._kinds = {
            label: [(generic.label, generic.labels) for generic in generics if generic.label]
            for label, model in schema.models.items()
            if (generics := list(model.generic_relations.values()))
        }
        """By label: the fields that hold labels of models, with their words for some."""
        self._watched = {
            label: {*names, *names.values()} for label, names in renames.fields.items()
        }
        self._became_many = self._lists(schema)

    def __bool__(self) -> bool:
        return bool(self.renames)

    @property
    def changed(self) -> set[str]:
        """The models of today whose records have other names in the backup, or name such models."""
        naming = {CONTENT_TYPE, PERMISSION} if self.renames.changes_models else set()
        return self.renames.changed(self._pks) | naming

    def fields(self, tag: str, names: Iterable[str]) -> list[str]:
        """What fields of the model that the backup calls `tag` are called today."""
        new = self.renames.fields.get(tag, {})
        return [new.get(name, name) for name in names]

    def old_fields(self, tag: str, names: Iterable[str]) -> list[str]:
        """What the backup calls these fields, and those to be counted."""
        old = {new: old for old, new in self.renames.fields.get(tag, {}).items()}
        return list(dict.fromkeys([*(old.get(n, n) for n in names), *self._watched.get(tag, ())]))

    def looks_into(self, label: str) -> bool:
        """Whether each record of a model has to be looked into."""
        return label in self._became_many or self._names_models(label)

    def _names_models(self, label: str) -> bool:
        if not self.renames.changes_models:
            return False
        return label in (CONTENT_TYPE, PERMISSION) or bool(self._kinds.get(label))

    def record(self, data: Any) -> Any:
        """A record with the names of today; what is none, as it is."""
        if not is_record(data):
            return data
        tag = data["model"]
        label = self.renames.label(tag)
        fields = self._members(tag, data["fields"])
        if self._names_models(label):
            fields = fields | self._values(label, fields, data.get("natural_key"))
        for name, has_key in self._became_many.get(label, {}).items():
            if name in fields:
                fields = fields | {name: _as_many(fields[name], has_key)}
        renamed = {**data, "model": label, "fields": fields}
        if data.get("references"):
            renamed["references"] = self._members(tag, data["references"])
        return renamed

    def _lists(self, schema: Schema) -> dict[str, dict[str, bool]]:
        """By label: the renamed fields that hold many today, and whether these have natural keys.
        Each may have held one."""
        found: dict[str, dict[str, bool]] = {}
        for old_label, names in self.renames.fields.items():
            label = self.renames.label(old_label)
            relations = schema.models[label].relations if label in schema.models else {}
            for name in names.values():
                if name in relations and relations[name].many:
                    target = schema.models.get(relations[name].to)
                    has_key = target is not None and target.has_natural_key
                    found.setdefault(label, {})[name] = has_key
        return found

    def count(self, runs: list[list[Any]]) -> None:
        """Count what records have, before they are renamed: structs of a type, or dictionaries."""
        for run in runs:
            if isinstance(run[0], msgspec.Struct):
                self._count_structs(run)
                continue
            for data in filter(is_record, run):
                tag = data["model"]
                self._records[tag] += 1
                self._count_members(tag, data["fields"], data.get("references"), data.get("pk"))

    def start_counting(self) -> None:
        self._records.clear()
        self._held.clear()
        self._with_pk.clear()

    def _count_members(
        self, tag: str, said: Collection[str], references: Iterable[str] | None, pk: Any
    ) -> None:
        for name in self._watched.get(tag, set()).intersection([*said, *(references or ())]):
            self._held[f"{tag}.{name}"] += 1
            if pk is not None and name in said:
                self._with_pk.add(f"{tag}.{name}")

    def _count_structs(self, run: list[Any]) -> None:
        tag = run[0].__struct_config__.tag
        self._records[tag] += len(run)
        spelled = run[0].fields.__struct_encode_fields__
        for record in run if tag in self._watched else ():
            values = zip(spelled, astuple(record.fields), strict=True)
            said = [name for name, value in values if value is not UNSET]
            self._count_members(tag, said, record.references, record.pk)

    def rename(self, key: list[Any], at: NamedModel) -> None:
        """Put the names of today into a natural key that names a model there."""
        old = f"{key[at.app]}.{key[at.model]}"
        new = self._label(old)
        if at.codename is not None:
            key[at.codename] = _codename(key[at.codename], old, new)
        key[at.app], _, key[at.model] = new.partition(".")

    def refuse_unfit_fields(self) -> None:
        """Raise `RenameError` for fields that the backup lacks, has by both names, or has beside
        the pks that they would be.

        To be asked once all records were counted.
        """
        for tag, names in self.renames.fields.items():
            for old, new in names.items():
                if not self._holding(tag, old):
                    raise unused(f"{tag}.{old}")
                if self._is_pk(tag, new) and f"{tag}.{old}" in self._with_pk:
                    raise RenameError(
                        f"{new} is the pk today, and records of {tag} have a pk beside {old}",
                        remedy="leave that rename out; --ignore-nonexistent leaves out a field"
                        " that the project no longer has",
                    )
                if self._held[f"{tag}.{new}"] and new not in names:
                    raise RenameError(
                        f"the backup has both fields {old} and {new} in records of {tag}",
                        remedy="leave that rename out; --ignore-nonexistent leaves out a field"
                        " that the project no longer has",
                    )

    def counts(self) -> dict[str, int]:
        """Of each rename, how many records have the old name.

        To be asked once all values were looked at. Raises `RenameError` for one that nothing has.
        """
        records: Counter[str] = Counter()
        for label, count in self._records.items():
            records[label] = count
            records[label.partition(".")[0]] += count
        for tag, names in self.renames.fields.items():
            records.update({f"{tag}.{name}": self._holding(tag, name) for name in names})
        apps_mentioned = {label.partition(".")[0] for label in self._mentioned}
        for old in self.renames.names:
            if not records[old] and old not in self._mentioned | apps_mentioned:
                raise unused(old)
        return {f"{old} -> {new}": records[old] for old, new in self.renames.names.items()}

    def _holding(self, tag: str, old: str) -> int:
        """How many records hold a field; the pk may stand in each where it has no name."""
        is_pk = self._is_pk(tag, self.renames.fields[tag][old])
        return self._records[tag] if is_pk else self._held[f"{tag}.{old}"]

    def _is_pk(self, tag: str, new: str) -> bool:
        """Whether a field of today is the pk of the model that the backup calls `tag`."""
        return self._pks.get(self.renames.label(tag)) == new

    def _members(self, tag: str, members: Data) -> Data:
        return dict(zip(self.fields(tag, members), members.values(), strict=True))

    def _values(self, label: str, fields: Data, natural_key: Any) -> Data:
        """The members of `fields` that name models, with the names of today."""
        if label == CONTENT_TYPE:
            return self._content_type(fields)
        if label == PERMISSION:
            return self._permission(fields, natural_key)
        return {
            name: self._text(fields[name])
            for name, words in self._kinds[label]
            if isinstance(fields.get(name), str) and fields[name] not in words
        }

    def _content_type(self, fields: Data) -> Data:
        if not {"app_label", "model"} <= fields.keys():
            return {}
        app, _, name = self._label(f"{fields['app_label']}.{fields['model']}").partition(".")
        return {"app_label": app, "model": name}

    def _permission(self, fields: Data, natural_key: Any) -> Data:
        """Codename and text of a permission that Django made, as it would make them today."""
        kind = natural_key[1:] if isinstance(natural_key, list) else fields.get("content_type")
        codename = fields.get("codename")
        if not isinstance(kind, list) or len(kind) != 2 or not isinstance(codename, str):
            return {}
        old = f"{kind[0]}.{kind[1]}"
        new = self.renames.label(old)
        today = _codename(codename, old, new)
        if today == codename:
            return {}
        action = today.partition("_")[0]
        return {"codename": today, "name": f"Can {action} {_model(new)._meta.verbose_name_raw}"}

    def _text(self, text: str) -> str:
        """The label of a model as text; in small letters if it was."""
        old = text.lower()
        new = self._label(old)
        return text if new == old else new if text == old else str(_model(new)._meta.label)

    def _label(self, old: str) -> str:
        """What a model is called today that a value names."""
        new = self.renames.label(old)
        if new != old:
            self._mentioned.add(old)
        return new


def _as_many(value: Any, has_key: bool) -> Any:
    """What a relation holds today that may have led to one row when the backup was made."""
    if not isinstance(value, list):
        return value if value is None else [value]
    is_key = has_key and bool(value) and not any(isinstance(part, list) for part in value)
    return [value] if is_key else value


def may_be_pk(label: str, value: Any) -> bool:
    """Whether a row of a model of today may have this pk; of one that is unknown it may."""
    try:
        converted(end_of(apps.get_model(label)._meta.pk), value)
    except LookupError:
        return True
    except REFUSALS:
        return False
    return True


def is_record(data: Any) -> bool:
    """Whether it is an object with a model and fields, and `references` if any that are one."""
    if not isinstance(data, dict) or not isinstance(data.get("fields"), dict):
        return False
    return isinstance(data.get("model"), str) and isinstance(data.get("references"), dict | None)


class NamedModel(NamedTuple):
    """Where in a natural key the app and the name of a model stand, and the codename of a
    permission for it."""

    app: int
    model: int
    codename: int | None


def named_models(positions: Mapping[Path, int], fields: Sequence[Any]) -> list[NamedModel]:
    """The models that a natural key names, of its parts' positions by path and of their fields."""
    found = []
    for path, at in positions.items():
        model = positions.get((*path[:-1], "model"))
        if path[-1] == "app_label" and _owner(fields[at]) == CONTENT_TYPE and model is not None:
            codename = positions.get((*path[:-2], "codename"))
            is_permission = codename is not None and _owner(fields[codename]) == PERMISSION
            found.append(NamedModel(at, model, codename if is_permission else None))
    return found


def _owner(field: Any) -> str:
    return str(field.model._meta.label_lower)


def refuse_unfit(renames: Renames) -> None:
    """Raise `RenameError` for new names that the project does not have."""
    labels = [config.label for config in apps.get_app_configs()]
    for app in renames.apps.values():
        _refuse_unknown("app", app, labels)
    models = {model._meta.label_lower: model for model in apps.get_models(True)}
    for label in renames.models.values():
        _refuse_unknown("model", label, models)
    for path in (new for new in renames.names.values() if new.count(".") == 2):
        label = path.rpartition(".")[0]
        _refuse_unknown("model", label, models)
        meta = models[label]._meta
        fields = [field.name for field in (*meta.local_fields, *meta.local_many_to_many)]
        _refuse_unknown("field", path, [f"{label}.{name}" for name in fields])


def _refuse_unknown(kind: str, name: str, known: Collection[str]) -> None:
    if name not in known:
        raise RenameError(
            f'the project has no {kind} "{name}"{did_you_mean(name, known)}',
            remedy="the new name is the project's of today: --rename OLD=NEW",
        )


def _codename(codename: str, old: str, new: str) -> str:
    """The codename that a permission has today that Django made for a model, by its labels."""
    old_name, new_name = model_name(old), model_name(new)
    action = codename.removesuffix(f"_{old_name}")
    if new_name == old_name or action not in _model(new)._meta.default_permissions:
        return codename
    return f"{action}_{new_name}"


def _model(label: str) -> Any:
    return apps.get_model(label)
