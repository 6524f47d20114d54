"""Compares a record with what was made of it: identity, fields, references beside the fields."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from fastnk.schema import Model, Relation, Schema, flat_parts, parse_path
from fastnk.verify.findings import Findings, Pair, difference
from fastnk.verify.inside import paths_into_fields
from fastnk.verify.keys import Doubt, Rows, Target
from fastnk.verify.leeway import (
    IDS_KEPT,
    MAY_DANGLE,
    NULLS_WRITTEN,
    PKS_KEPT,
    TWICE,
    UNCHANGED,
    Leeway,
)
from fastnk.verify.pairing import BeforeAfter
from fastnk.verify.reading import Entry
from fastnk.verify.references import References
from fastnk.verify.report import CODES, Style
from fastnk.verify.values import MISSING, Repeated, digest, has_null


class Comparison:
    """Compares pair after pair, and puts what it finds into `findings`."""

    def __init__(
        self, schema: Schema, rows: Rows, leeway: Leeway, findings: Findings, *, embedded: bool
    ) -> None:
        self._schema = schema
        self._rows = rows
        self._leeway = leeway
        self._findings = findings
        self._references = References(rows, leeway)
        self._paths = {
            label: paths_into_fields(schema, model) if embedded else {}
            for label, model in schema.models.items()
        }
        """By label and field."""
        self._targets = {
            label: {name: self._target(label, name, one) for name, one in model.relations.items()}
            for label, model in schema.models.items()
        }
        self._changing = {
            label: self._targets[label].keys() | self._paths[label].keys()
            for label in schema.models
        }
        """By label: the fields that are not to stay as they are."""
        self._has_pk_in_key = {
            label: _has_pk_in_key(model) for label, model in schema.models.items()
        }
        self.converted_keys: dict[str, set[bytes]] = {}
        """By label: a digest of each key that stands for a pk now."""
        self.natural_keys: dict[str, set[bytes]] = {}
        """By label: the same of records that were natural already."""
        self._invented = CODES["FNK502"]
        if leeway.leaves_out():
            self._invented += ", or was to be left out"

    def _target(self, label: str, name: str, relation: Relation) -> Target | None:
        """What the ids in a relation refer to; `None` where they stay ids."""
        if relation.has_natural_key:
            return Target(relation.to, relation.to_field, (label, name))
        if self._rows.is_keyed(relation.to):
            return Target(relation.to, relation.to_field)
        return None

    def compare_all(self, pairs: Iterable[BeforeAfter]) -> None:
        for before, after in pairs:
            if before is not None:
                self._findings.count(before)
            if after is not None:
                self._findings.model(after.label).converted_records += 1
            if before is None:
                self._findings.add(difference(before, after, "FNK502", what=self._invented))
            elif after is None:
                self._findings.add(difference(before, after, "FNK501"))
            else:
                self._compare(Pair(before, after, self._findings))

    def _compare(self, pair: Pair) -> None:
        before, after = pair.before, pair.after
        model = self._schema.models.get(pair.label)
        takes_key = self._rows.is_keyed(pair.label) and pair.label not in self._leeway.keeping
        without = "pk" if takes_key and before.is_legacy() else None
        pair.repeated(before.members, after.members, without=without)
        pair.repeated(before.fields, after.fields)
        if self._leeway.allows("on_duplicate_member", "keep") and _has_member_twice(before):
            self._leeway.use("on_duplicate_member", TWICE)
        for name in before.unknown_names() | after.unknown_names():
            pair.same(name, before.get(name), after.get(name))
        if model is None:
            self._compare_unknown(pair)
            return
        self._compare_identity(pair, model)
        self._compare_fields(pair, model)
        self._compare_references(pair, model)

    def _compare_unknown(self, pair: Pair) -> None:
        before, after = pair.before, pair.after
        for name in ("pk", "natural_key", "references"):
            pair.same(name, before.get(name), after.get(name))
        for name in before.fields.keys() | after.fields.keys():
            pair.same(name, before.fields.get(name, MISSING), after.fields.get(name, MISSING))
        if self._leeway.allows("on_unknown_model", "keep"):
            self._leeway.use("on_unknown_model", UNCHANGED)
        else:
            pair.find("FNK508", what="the schema does not know this model, nor which ids it holds")

    # -- pk and natural key --

    def _compare_identity(self, pair: Pair, model: Model) -> None:
        before, after = pair.before.members, pair.after.members
        if not model.has_natural_key or not pair.before.is_legacy():
            self._compare_kept_identity(pair)
        elif pair.label in self._leeway.keeping:
            self._compare_kept_identity(pair)
            self._leeway.use(self._leeway.keeping[pair.label], PKS_KEPT)
        elif "pk" in after and "natural_key" not in after:
            pair.same("pk", before["pk"], after["pk"])
            self._judge_kept_pk(pair)
        else:
            self._compare_key(pair)
            self._compare_kept_pk(pair, model)

    def _judge_kept_pk(self, pair: Pair) -> None:
        """Of a record that should have its natural key now, if one can be made."""
        is_allowed = self._leeway.allows("on_unresolved", "keep", "null")
        if is_allowed and self._rows.own_key(pair.before) is None:
            self._leeway.use("on_unresolved", PKS_KEPT)
        else:
            before, after = pair.before.get("pk"), pair.after.get("pk")
            pair.find("FNK508", "pk", before, after, what="the pk was left as it is")

    def _compare_kept_identity(self, pair: Pair) -> None:
        """Of a record that has no natural key, or was natural already."""
        before, after = pair.before, pair.after
        pair.same("pk", before.get("pk"), after.get("pk"))
        key = after.get("natural_key")
        pair.same("natural_key", before.get("natural_key"), key, changed="FNK506")
        self._note_natural_key(pair)

    def _note_natural_key(self, pair: Pair) -> None:
        """No record that was converted may have the key of one that was natural already."""
        key = self._rows.own_key(pair.before)
        if key is None or has_null(key) or pair.label in self._leeway.keeping:
            return
        one = digest(key)
        self.natural_keys.setdefault(pair.label, set()).add(one)
        if one in self.converted_keys.get(pair.label, ()):
            pair.find("FNK505", "natural_key", key)

    def _compare_key(self, pair: Pair) -> None:
        """Of a record that should have its natural key now, in one style or the other."""
        pk, key = pair.before.get("pk"), pair.after.get("natural_key")
        has_key = key is not MISSING
        what = "a natural key beside others without" if has_key else "the natural key was lost"
        style: Style = "fastnk" if has_key else "django"
        pair.note_style(style, "FNK507", "natural_key", MISSING, MISSING, what)
        expected = self._rows.own_key(pair.before)
        if expected is None or (has_key and key != expected):
            pair.find("FNK506", "natural_key", pk, key, expected=expected or MISSING)
        elif self._is_unique(pair.label, expected):
            pair.summary.keys += 1
            if self._leeway.allows("on_null_key", "null") and has_null(expected):
                self._leeway.use("on_null_key", NULLS_WRITTEN)
        else:
            pair.find("FNK505", "natural_key", pk, expected)

    def _is_unique(self, label: str, key: list[Any]) -> bool:
        converted = self.converted_keys.setdefault(label, set())
        one = digest(key)
        unique = one not in converted and one not in self.natural_keys.get(label, ())
        converted.add(one)
        return unique

    def _compare_kept_pk(self, pair: Pair, model: Model) -> None:
        """Of a record that has a natural key now: whether its pk may go, or has to stay."""
        before, after = pair.before.get("pk"), pair.after.get("pk")
        has_key = "natural_key" in pair.after.members
        if model.keep_pk or after is not MISSING:
            pair.same("pk", before if model.keep_pk else MISSING, after)
        elif before is not None and self._says_something(pair.label, model, has_key):
            pair.find("FNK507", "pk", before, what="the pk was lost, and it says something")

    def _says_something(self, label: str, model: Model, has_key: bool) -> bool:
        """Whether a record without its pk does not say any more what the pk said."""
        relation = model.relations.get(model.pk)
        if relation is None:
            return self._has_pk_in_key[label] and not has_key
        if relation.parent_link or self._rows.is_keyed(relation.to):
            return False  # it is a reference, and compared as one
        return not (self._has_pk_in_key[label] and has_key)

    # -- fields --

    def _compare_fields(self, pair: Pair, model: Model) -> None:
        before, after = pair.before.fields, pair.after.fields
        changing = self._changing[pair.label]
        for name, value in before.items():
            now = after.get(name, MISSING)
            if name in changing:
                self._compare_field(pair, model, name, value, now)
            elif value != now:
                pair.same(name, value, now)
        link = self._compare_parent_link(pair, model)
        for name in after.keys() - before.keys() - {link}:
            pair.same(name, MISSING, after[name])

    def _compare_field(self, pair: Pair, model: Model, name: str, value: Any, now: Any) -> None:
        target = self._targets[pair.label].get(name)
        paths = self._paths[pair.label].get(name)
        if now is MISSING or (target is None and paths is None):
            pair.same(name, value, now)
        elif paths is not None:
            self._references.compare_inside(pair, name, paths, value, now)
        elif target is not None and model.relations[name].many and isinstance(value, list):
            self._references.compare_many(pair, name, target, value, now)
        elif target is not None:
            self._references.compare(pair, name, target, value, now)

    def _compare_parent_link(self, pair: Pair, model: Model) -> str | None:
        """The link to the parent, which the backup holds only as the pk; its name."""
        relation = model.relations.get(model.pk)
        pk, name = pair.before.members.get("pk"), model.pk
        stated = "natural_key" in pair.before.members or name in pair.before.fields
        if relation is None or not relation.parent_link or pk is None or stated:
            return None
        now = pair.after.fields.get(name, MISSING)
        target = self._targets[pair.label].get(name)
        if now is MISSING:
            if target is not None and "pk" in pair.after.members:
                pair.find("FNK508", name, pk, what="the link to the parent is only an id")
            elif "pk" not in pair.after.members:
                pair.find("FNK509", name, pk, what="the link to the parent was lost")
        elif target is not None:
            self._references.compare(pair, name, target._replace(by_pk=True), pk, now)
        else:
            pair.same(name, pk, now)
        return name

    # -- references beside the fields --

    def _compare_references(self, pair: Pair, model: Model) -> None:
        before, now = pair.before.get("references"), pair.after.get("references")
        if before is not MISSING and not (isinstance(before, dict) and isinstance(now, dict)):
            pair.same("references", before, now)
            return
        if now is not MISSING and not isinstance(now, dict):
            pair.same("references", MISSING, now)
        stated = before if isinstance(before, dict) else {}
        held = now if isinstance(now, dict) else {}
        for name, value in stated.items():
            pair.same(f"references.{name}", value, held.get(name, MISSING))
        made = {**self._pk_reference(pair, model), **self._generic_references(pair, model)}
        for name, one in made.items():
            if name not in stated:
                self._compare_reference(pair, name, one, held.get(name, MISSING))
        for name in held.keys() - made.keys() - stated.keys():
            pair.find("FNK507", f"references.{name}", MISSING, held[name])

    def _compare_reference(self, pair: Pair, name: str, one: _Reference, now: Any) -> None:
        if one.absent_by is not None and now is MISSING:
            self._leeway.use(one.absent_by, IDS_KEPT)
        elif now is MISSING:
            pair.find(one.absent.code, name, one.id, what=one.absent.what)
        elif one.absent_by is not None or one.target is None:
            pair.find("FNK504", name, one.id, now, what=one.absent.what)
        else:
            self._references.compare(pair, name, one.target, one.id, now)

    def _pk_reference(self, pair: Pair, model: Model) -> dict[str, _Reference]:
        """A pk that is a foreign key."""
        relation = model.relations.get(model.pk)
        pk = pair.before.members.get("pk")
        if relation is None or relation.parent_link or not self._rows.is_keyed(relation.to):
            return {}
        if pk is None or "natural_key" in pair.before.members:
            return {}
        absent = Doubt("FNK509", "the pk is a reference, and was lost")
        if "pk" in pair.after.members:
            absent = Doubt("FNK508", "the pk is a reference, and only an id")
        target = Target(relation.to, relation.to_field, by_pk=True)
        if model.has_natural_key and pair.label not in self._leeway.keeping:
            # Its key takes the place of the pk, so that even a mere id has to stand there.
            return {model.pk: _Reference(target, pk, absent)}
        return {model.pk: self._reference(target, pk, absent)}

    def _reference(self, target: Target, id_: Any, absent: Doubt) -> _Reference:
        """One that does not stand there where its id becomes no key."""
        instead = self._leeway.instead(target, id_, self._rows.find(target, id_)[1])
        return _Reference(target, id_, absent, None if instead is None else instead.policy)

    def _generic_references(self, pair: Pair, model: Model) -> dict[str, _Reference]:
        found = {}
        fields = pair.before.fields
        for generic in model.generic_relations.values():
            type_ = fields.get(generic.kind)
            id_ = fields.get(generic.object_id)
            if type_ is not None and id_ is not None and not isinstance(id_, list):
                label = self._rows.generic_target(pair.label, generic, type_)
                policy = MAY_DANGLE if generic.may_dangle else "on_generic"
                one = self._generic_reference(label, id_, policy)
                if one is not None:
                    found[generic.object_id] = one
        return found

    def _generic_reference(self, label: str | None, id_: Any, policy: str) -> _Reference | None:
        by_policy = policy if self._leeway.allows(policy, "keep") else None
        if label is None:
            absent = Doubt("FNK508", "no record has this content type, or the schema lacks it")
            return _Reference(None, id_, absent, by_policy)
        if not self._rows.is_keyed(label):
            absent = Doubt("FNK508", "the target has no natural key")
            return _Reference(None, id_, absent, by_policy) if by_policy else None
        target = Target(label, policy=policy)
        doubt = self._rows.find(target, id_)[1]
        absent = Doubt("FNK508", CODES["FNK508"] if doubt is None else doubt.what)
        return self._reference(target, id_, absent)


class _Reference(NamedTuple):
    """What should stand beside `fields`."""

    target: Target | None
    """What it refers to, where that can be told."""
    id: Any
    absent: Doubt
    """What it means when it does not stand there."""
    absent_by: str | None = None
    """The policy by which it does not."""


def _has_member_twice(entry: Entry) -> bool:
    return isinstance(entry.members, Repeated) or isinstance(entry.fields, Repeated)


def _has_pk_in_key(model: Model) -> bool:
    paths = [parse_path(part) for part in flat_parts(model.natural_key or [])]
    return any(not path.hops and path.field in ("pk", model.pk) for path in paths)
