"""What the policies of a conversion allow of a backup, and how often that was needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any, NamedTuple

from fastnk.policies import Policies
from fastnk.schema import Model, Relation, Schema
from fastnk.verify.keys import LOST, NO_KEY, Doubt, Rows, Target
from fastnk.verify.needs import Id, Needs
from fastnk.verify.reading import Entry
from fastnk.verify.report import Style
from fastnk.verify.values import digest, has_null, is_reference

LEFT_OUT = "records left out"
UNCHANGED = "records left as they are"
PKS_KEPT = "records that keep their pks"
IDS_KEPT = "references that stay ids"
MADE_NULL = "references that became null"
MEANT_LAST = "references to the last of several records"
TEXTS_KEPT = "texts left as they are"
NULLS_WRITTEN = "natural keys with a null"
TWICE = "records with a member that stands twice"

COMPLETE = (NULLS_WRITTEN, TWICE)
"""What loses nothing."""

MOST_STEPS = 2
"""Looks at what leads nowhere, before it is noted what goes together."""
MAY_DANGLE = "may_dangle"
"""In place of a policy that is `keep`, where the schema itself says that an id may lead nowhere."""


class Instead(NamedTuple):
    """What stands for an id that becomes no natural key."""

    value: Any
    policy: str
    """That which allows it."""


class Leeway:
    """What is not to be as the schema alone would have it."""

    def __init__(
        self,
        schema: Schema,
        rows: Rows,
        policies: Policies,
        superseded: Collection[int],
        style: Style,
    ) -> None:
        """`superseded` are the numbers of records whose pk a later one has, where that counts."""
        self.keeping: dict[str, str] = {}
        """The models that keep their pks, and the policy for that."""
        self.allowed: dict[str, Counter[str]] = {}
        """By policy: how often it was needed, and for what."""
        self.generic_kept = 0
        """Generic references that stay ids, as the schema allows."""
        self.depends_on_style = False
        """Whether in the other style other records are left out."""
        self._style = style
        self._with_style = {
            label for label, model in schema.models.items() if _depends_on_style(model)
        }
        """The models in whose records not the same becomes keys in both styles."""
        self._schema = schema
        self._rows = rows
        self._policies = policies
        self._superseded = superseded
        self._left_out: set[int] = set()
        """The numbers of records whose rows are taken away."""
        self._to_leave_out: set[int] = set()
        """Those of which that is known before they are met."""
        self._looks = 0
        """How often it was looked which records are left out."""
        self._made: dict[str, set[bytes]] = {}
        self._standing: dict[str, set[bytes]] = {}

    def allows(self, policy: str, *words: str) -> bool:
        return ("keep" if policy == MAY_DANGLE else getattr(self._policies, policy)) in words

    def leaves_out(self) -> bool:
        """Whether records may be left out."""
        policies = ("on_duplicate_pk", "on_unknown_model", "on_unresolved")
        return any(self.allows(policy, "drop") for policy in policies)

    def use(self, policy: str, what: str) -> None:
        if policy == MAY_DANGLE:
            self.generic_kept += 1
            return
        self.allowed.setdefault(policy, Counter())[what] += 1

    def take_over(self, allowed: dict[str, Counter[str]], generic_kept: int) -> None:
        """What was needed for other records."""
        for policy, counts in allowed.items():
            self.allowed.setdefault(policy, Counter()).update(counts)
        self.generic_kept += generic_kept

    # -- references --

    def instead(self, target: Target, value: Any, doubt: Doubt | None) -> Instead | None:
        """What stands for an id; `None` where nothing but the natural key does, or no policy says
        what. The doubt is that of `Rows.find`."""
        if target.label in self.keeping:
            return Instead(value, self.keeping[target.label])
        if doubt is None:
            return None
        if doubt in LOST and self.allows(target.policy, "keep", "null"):
            becomes_null = self.allows(target.policy, "null") and not target.by_pk
            return Instead(None if becomes_null else value, target.policy)
        if doubt == NO_KEY and self.allows("on_unresolved", "keep", "null"):
            return Instead(value, "on_unresolved")  # that record keeps its pk
        return None

    def written(self, target: Target, value: Any) -> Any:
        """What should stand for an id."""
        key, doubt = self._rows.find(target, value)
        instead = self.instead(target, value, doubt)
        if instead is not None:
            return instead.value
        return value if key is None else key

    def written_list(self, target: Target, values: list[Any]) -> list[Any]:
        """What should stand for a list of ids: one that would become null is taken out."""
        now = [self.written(target, one) if is_reference(one) else one for one in values]
        pairs = zip(values, now, strict=True)
        return [new for old, new in pairs if new is not None or old is None]

    # -- models that keep their pks --

    def find_models_keeping_pks(self, entries: Iterator[Entry]) -> None:
        """From the keys of all records, also of those that will be left out."""
        for entry in entries:
            if self._rows.is_keyed(entry.label) and entry.label not in self.keeping:
                cause = self._cause_to_keep(entry)
                if cause is not None:
                    self.keeping[entry.label] = cause
        self._made.clear()
        self._standing.clear()

    def _cause_to_keep(self, entry: Entry) -> str | None:
        key = self._rows.own_key(entry)
        if key is None:
            return None
        is_legacy = entry.is_legacy()
        if is_legacy and has_null(key) and self.allows("on_null_key", "keep"):
            return "on_null_key"
        if self.allows("on_duplicate_key", "keep") and self._is_known(entry.label, key, is_legacy):
            return "on_duplicate_key"
        return None

    def _is_known(self, label: str, key: list[Any], is_legacy: bool) -> bool:
        """Whether another record has the key; two that are natural already may share one."""
        one = digest(key)
        made = self._made.setdefault(label, set())
        standing = self._standing.setdefault(label, set())
        is_known = one in made or (is_legacy and one in standing)
        (made if is_legacy else standing).add(one)
        return is_known

    # -- records that are left out --

    def find_left_out(self, entries: Iterator[Entry]) -> bool:
        """Take away the rows of records that are left out; whether there were any, because then
        more may be."""
        found = []
        other: Style = "django" if self._style == "fastnk" else "fastnk"
        # Where references lead back, as most do, the first look finds all.
        self._looks += 1
        needs = Needs() if self._looks > MOST_STEPS else None
        for entry in entries:
            leads_nowhere = self.leads_nowhere(entry)
            if not self.depends_on_style and entry.label in self._with_style:
                self.depends_on_style = leads_nowhere != self._leads_nowhere(entry, other)
            if entry.number in self._left_out:
                continue
            if needs is not None:
                needs.add(entry.number, self._rows.ids_of(entry), self._needed(entry))
            if leads_nowhere or entry.number in self._to_leave_out:
                self._left_out.add(entry.number)
                if self._rows.remove(entry):
                    found.append(entry.number)
        if needs is not None:
            self._to_leave_out = needs.left_out_with(found)
        return bool(found)

    def _needed(self, entry: Entry) -> Iterator[Id]:
        """The ids without whose records this one is left out."""
        model = self._schema.models.get(entry.label)
        if model is not None:
            for target, value in self._references(entry, model, self._style):
                if is_reference(value) and (needed := self._rows.id_of(target, value)):
                    yield needed

    def kept(
        self, entries: Iterable[Entry], left_out: Callable[[Entry], None] | None = None
    ) -> Iterator[Entry]:
        """The records of the backup that stay; `left_out` is told of the others, which count."""
        if not self.leaves_out():
            yield from entries
            return
        for entry in entries:
            cause = self._cause_to_leave_out(entry)
            if cause is None:
                yield entry
            elif left_out is not None:
                left_out(entry)
                self.use(cause, LEFT_OUT)

    def _cause_to_leave_out(self, entry: Entry) -> str | None:
        """The policy by which a record is left out."""
        if entry.number in self._superseded:
            return "on_duplicate_pk"
        if entry.label not in self._schema.models:
            return "on_unknown_model" if self.allows("on_unknown_model", "drop") else None
        leaves_out = self.allows("on_unresolved", "drop") and self.leads_nowhere(entry)
        return "on_unresolved" if leaves_out else None

    def leads_nowhere(self, entry: Entry) -> bool:
        """Whether a reference or the natural key of a record needs another that is not there."""
        return self._leads_nowhere(entry, self._style)

    def _leads_nowhere(self, entry: Entry, style: Style) -> bool:
        model = self._schema.models.get(entry.label)
        if model is None:
            return False
        is_keyed = self._rows.is_keyed(entry.label) and entry.label not in self.keeping
        if is_keyed and entry.is_legacy() and self._rows.own_key(entry) is None:
            return True
        return any(self._is_lost(*reference) for reference in self._references(entry, model, style))

    def _is_lost(self, target: Target, value: Any) -> bool:
        return is_reference(value) and self._rows.find(target, value)[1] in LOST

    def _references(self, entry: Entry, model: Model, style: Style) -> Iterator[tuple[Target, Any]]:
        """What becomes a key in that style, and the ids that do."""
        for name, relation in model.relations.items():
            target = self._target(entry.label, name, relation, style)
            if target is None:
                continue
            for one in _ids(relation, entry.fields.get(name)):
                yield target, one
            if name == model.pk and _writes_pk(entry, name, relation, style):
                yield target, entry.members.get("pk")

    def _target(self, label: str, name: str, relation: Relation, style: Style) -> Target | None:
        by_proxy = style == "django" and relation.has_natural_key
        if relation.to in self.keeping or not (by_proxy or self._rows.is_keyed(relation.to)):
            return None
        return Target(relation.to, relation.to_field, (label, name) if by_proxy else None)


def _depends_on_style(model: Model) -> bool:
    pk = model.relations.get(model.pk)
    is_by_proxy = any(relation.has_natural_key for relation in model.relations.values())
    return is_by_proxy or not (pk is None or pk.parent_link)


def _writes_pk(entry: Entry, name: str, relation: Relation, style: Style) -> bool:
    """Whether a pk that is a relation stands among the fields, as the link to a parent, or beside
    them, where style django has no place for it."""
    if "natural_key" in entry.members:
        return False
    if relation.parent_link:
        return name not in entry.fields
    beside = entry.members.get("references", {})
    return style == "fastnk" and isinstance(beside, dict) and name not in beside


def _ids(relation: Relation, value: Any) -> list[Any]:
    """What a relation holds."""
    return value if relation.many and isinstance(value, list) else [value]
