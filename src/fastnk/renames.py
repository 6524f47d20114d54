"""What a backup calls otherwise than the project does today: apps, models and fields.

Plain data that every layer may read; no Django.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from msgspec.structs import replace

from fastnk.errors import UsageError
from fastnk.schema import Embedded, GenericRelation, KeyPart, Model, Relation, Schema, plain_label

EXAMPLE = "--rename oldapp=app, --rename app.old=app.new, --rename app.model.old=app.model.new"

NONEXISTENT = (
    "--rename app.old=app.new for what has another name today, a field or a whole app too;"
    " --ignore-nonexistent leaves out what is gone"
)
"""What to do about models and fields that the project does not have."""


OF_TODAY = " of today"
"""Behind the name of a field that no record has, since the backup calls another field so."""
OF_BACKUP = " of the backup"
"""Behind the name of a field that is excluded, so that the project has none of that name."""


class RenameError(UsageError):
    """A rename that does not fit the backup, the project, or another rename."""

    code = "FNK103"


def parse_renames(words: Iterable[str]) -> dict[str, str]:
    """Old names to new ones, of words as `oldapp.model=app.model`. Raises `RenameError`."""
    names: dict[str, str] = {}
    for word in words:
        old, sign, new = word.partition("=")
        if not sign:
            raise RenameError(f'"{word}" is no rename', remedy=EXAMPLE)
        if names.setdefault(old, new) != new:
            raise RenameError(f'"{old}" is renamed to "{names[old]}" and to "{new}"')
    return names


class Renames:
    """Old names, which a backup has, to new ones: of apps, of models, of fields. A field that is
    excluded gets a name that no field has."""

    def __init__(
        self, names: Mapping[str, str] | None = None, exclude: Collection[str] = ()
    ) -> None:
        """`exclude` are fields, as `app.model.field`: the model as it is called today, the field as
        the backup calls it.

        Raises `RenameError` for names that are none, or that contradict each other.
        """
        self.apps: dict[str, str] = {}
        self.models: dict[str, str] = {}
        self.fields: dict[str, dict[str, str]] = {}
        """By the old label of the model."""
        split = [_split(old, new) for old, new in (names or {}).items()]
        for old, new in sorted(split, key=lambda pair: len(pair[0])):
            if len(old) == 1:
                self.apps[old[0]] = new[0]
            elif len(old) == 2:
                self.models[".".join(old)] = ".".join(new)
            else:
                self._add_field(old, new)
        for path in exclude:
            self._exclude(path)
        for meant in (self.apps, self.models, *self.fields.values()):
            _refuse_shared(meant)

    def __bool__(self) -> bool:
        return bool(self.apps or self.models or self.fields)

    @property
    def names(self) -> dict[str, str]:
        """All that are not excluded, dotted: the old names to the new ones."""
        fields = {
            f"{label}.{old}": f"{self.label(label)}.{new}"
            for label, names in self.fields.items()
            for old, new in names.items()
            if excluded_field(new) is None
        }
        return self.apps | self.models | fields

    @property
    def changes_models(self) -> bool:
        """Whether any model has another label."""
        return bool(self.apps or self.models)

    def label(self, old: str) -> str:
        """What a model of the backup is called today."""
        old = plain_label(old)
        if old in self.models:
            return self.models[old]
        app, _, model = old.partition(".")
        return f"{self.apps[app]}.{model}" if model and app in self.apps else old

    def old_label(self, new: str) -> str:
        """What the backup calls a model of today."""
        for old, name in self.models.items():
            if name == new:
                return old
        app, _, model = new.partition(".")
        old_apps = [old for old, name in self.apps.items() if name == app]
        return f"{old_apps[0]}.{model}" if old_apps else new

    def changed(self, labels: Iterable[str]) -> set[str]:
        """The models of today that the backup calls otherwise, of `labels`, or fields of them."""
        renamed = {label for label in labels if self.old_label(label) != label}
        fields = (new for new in self.names.values() if new.count(".") == 2)
        return renamed | {path.rpartition(".")[0] for path in fields}

    def refuse_clashes(self, labels: Collection[str]) -> None:
        """Raise `RenameError` if two of the models in a backup would be the same one today."""
        met: dict[str, str] = {}
        for label in sorted(labels):
            other = met.setdefault(self.label(label), label)
            if other != label:
                raise RenameError(
                    f"the backup has both {other} and {label},"
                    f" which would both be {self.label(label)}",
                    remedy="leave that rename out; --ignore-nonexistent leaves out the records of"
                    " models that the project no longer has",
                )

    def refuse_reversed(self, labels: Collection[str]) -> None:
        """Raise `RenameError` for a model or an app of which only the new name is in a backup with
        models of these labels: whatever refers to it by the old one then leads nowhere."""
        names = set(map(plain_label, labels))
        names |= {label.partition(".")[0] for label in labels}
        for old, new in (self.apps | self.models).items():
            if old not in names and new in names:
                raise unused(old)

    def schema_of_backup(self, schema: Schema) -> Schema:
        """`schema`, which has the names of today, with the names that the backup has.

        Models are in it by both labels: whether the backup uses both is not the schema's business.
        Raises `RenameError` if a field is excluded that is a pk or a part of a natural key.
        """
        if not self:
            return schema
        models = {label: self._old_model(schema, label) for label in schema.models}
        old = {self.old_label(label): model for label, model in models.items()}
        bare = {label: replace(model, proxies=[]) for label, model in models.items()}
        return Schema.of(bare | old)

    def _add_field(self, old: list[str], new: list[str]) -> None:
        label, new_label = ".".join(old[:2]), ".".join(new[:2])
        if self.label(label) != new_label:
            raise RenameError(
                f'"{".".join(old)}" cannot become "{".".join(new)}": today {label} is'
                f" {self.label(label)}",
                remedy=f"a field stays in its model; if that has another name, too:"
                f" --rename {label}={new_label}",
            )
        self.fields.setdefault(label, {})[old[2]] = new[2]

    def _exclude(self, path: str) -> None:
        label, _, name = path.rpartition(".")
        names = self.fields.setdefault(self.old_label(label), {})
        if name in names:
            raise RenameError(f"{path} is excluded, and renamed", remedy="leave one of both out")
        names[name] = name + OF_BACKUP

    def old_field(self, label: str | None, name: str) -> str:
        """What the backup calls a field of a model of today."""
        names = self.fields.get(self.old_label(label), {}) if label else {}
        unsaid = name + OF_TODAY if name in names else name
        return next((old for old, new in names.items() if new == name), unsaid)

    def _old_identity(self, label: str | None, name: str, of: str) -> str:
        """The same of a field that tells rows of a model apart."""
        names = self.fields.get(self.old_label(label), {}) if label else {}
        if excluded_field(names.get(name, "")):
            raise RenameError(
                f"{label}.{name} cannot be excluded: {of} tells rows apart by it",
                remedy=f"leave its records out: --exclude {label}",
            )
        return self.old_field(label, name)

    def _old_model(self, schema: Schema, label: str) -> Model:
        model = schema.models[label]
        return replace(
            model,
            pk=self._old_identity(label, model.pk, label),
            natural_key=self._old_key(schema, label, model.natural_key),
            relations={
                self.old_field(label, name): self._old_relation(schema, relation)
                for name, relation in model.relations.items()
            },
            generic_relations={
                name: self._old_generic(label, generic)
                for name, generic in model.generic_relations.items()
            },
            embedded={
                self._old_place(label, path): Embedded(
                    self.old_label(end.to), end.to_field and self.old_field(end.to, end.to_field)
                )
                for path, end in model.embedded.items()
            },
            proxies=[self.old_label(proxy) for proxy in model.proxies],
        )

    def _old_relation(self, schema: Schema, relation: Relation) -> Relation:
        by = relation.to_field
        return replace(
            relation,
            to=self.old_label(relation.to),
            to_field=by and self.old_field(relation.to, by),
            natural_key=self._old_key(schema, relation.to, relation.natural_key),
        )

    def _old_generic(self, label: str, generic: GenericRelation) -> GenericRelation:
        return replace(
            generic,
            object_id=self.old_field(label, generic.object_id),
            content_type=generic.content_type and self.old_field(label, generic.content_type),
            label=generic.label and self.old_field(label, generic.label),
            labels={text: self.old_label(target) for text, target in generic.labels.items()},
        )

    def _old_place(self, label: str, path: str) -> str:
        """A path into a field, which begins with the field's name."""
        end = min(at for sign in ".[" if (at := f"{path}.".find(sign)) >= 0)
        return self.old_field(label, path[:end]) + path[end:]

    def _old_key(
        self, schema: Schema, label: str, parts: list[KeyPart] | None
    ) -> list[KeyPart] | None:
        return None if parts is None else [self._old_part(schema, label, one) for one in parts]

    def _old_part(self, schema: Schema, label: str, part: KeyPart) -> KeyPart:
        if isinstance(part, list):
            return [self._old_part(schema, label, one) for one in part]
        return self._old_path(schema, label, part)

    def _old_path(self, schema: Schema, label: str, part: str) -> str:
        path, bar, transform = part.partition("|")
        names: list[str] = []
        at: str | None = label
        for name in path.split("__"):
            names.append(self._old_identity(at, name, label))
            at = schema.target(at, name) if at else None
        return "__".join(names) + bar + transform


def excluded_field(path: str) -> str | None:
    """The field that is excluded, of the path to the name that it got instead."""
    return path.removesuffix(OF_BACKUP) if path.endswith(OF_BACKUP) else None


def unused(old: str) -> RenameError:
    """The error for an old name that the backup does not have."""
    return RenameError(
        f'nothing in the backup is called "{old}"',
        remedy="write the old name as it stands there; fastnk detect --full lists the models",
    )


def _split(old: str, new: str) -> tuple[list[str], list[str]]:
    """The two names step by step, the models in lower case as in Django's labels."""
    pair = old.split("."), new.split(".")
    lengths = {len(steps) for steps in pair}
    if len(lengths) > 1 or max(lengths) > 3 or not all(map(all, pair)):
        raise RenameError(f'"{old}={new}" is no rename', remedy=EXAMPLE)
    for steps in pair:
        steps[1:2] = [model.lower() for model in steps[1:2]]
    if pair[0] == pair[1]:
        raise RenameError(f'"{old}={new}" changes nothing', remedy="leave it out")
    return pair


def _refuse_shared(names: dict[str, str]) -> None:
    """Raise `RenameError` where two old names have the same new one."""
    olds: dict[str, str] = {}
    for old, new in names.items():
        if olds.setdefault(new, old) != old:
            raise RenameError(
                f'"{olds[new]}" and "{old}" would both become "{new}"',
                remedy="leave one of them out; of two apps that became one, rename the models",
            )
