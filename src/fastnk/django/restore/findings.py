"""Everything wrong with a backup, gathered before anything is written."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from fastnk.django.restore.discretion import is_secret
from fastnk.django.restore.values import as_text
from fastnk.errors import MAX_FINDINGS, Finding, FindingList, FindingsError, Place
from fastnk.renames import NONEXISTENT, excluded_field

DANGLING = "FNK410"
UNKNOWN_MODEL = "FNK411"
UNKNOWN_FIELD = "FNK412"
REFUSED_VALUE = "FNK413"
AMBIGUOUS_KEY = "FNK414"
SAME_ROW = "FNK415"
NO_KEY = "FNK416"
NO_PK = "FNK417"
UNIQUE = "FNK418"
EXISTS = "FNK419"
CHECK = "FNK420"

OF_ROWS = {NO_PK, UNIQUE, CHECK}
"""What a restore without the model does not find."""

WITH_IDS = "dump the rows with ids, without --natural-foreign and --natural-primary"
"""What to do where records do not say keys that nothing can make: ids need no such keys."""

BY_ITS_SCHEMA = "restore by the schema that these natural keys are from: --schema SCHEMA"
"""What to do where the schema has no key for a model: the backup was converted by another one."""

DECLARABLE = " (--default: what it means)"
"""How a finding ends that a default would settle; it tells no value."""

_WITHOUT = {
    "keep": "keep such ids",
    "null": "let references go",
    "drop": "leave records out",
}
"""What becomes of references that nothing answers, by the word of `--on-unresolved`."""

_OPTION = re.compile("--on-[a-z-]+ [a-z]+")
"""In what a finding says."""


class Findings:
    """The findings of one restore, by the name that its backup goes by."""

    def __init__(
        self,
        name: str | None,
        number_in_backup: Callable[[int], int] = int,
        *,
        ignore_nonexistent: bool = False,
        keeps_generic: bool = False,
        on_dangling: str = "error",
        last_counts: bool = False,
    ) -> None:
        self._name = name
        self.number_in_backup = number_in_backup
        self.keeps_generic = keeps_generic
        """Whether a generic reference to a row that is gone may come to mean another one."""
        self.on_dangling = on_dangling
        """What becomes of a reference that nothing answers, as in `RestoreOptions`."""
        self._settled_by: list[str] = []
        """What `on_dangling` may be for all references that are in the way because nothing answers
        them, the one that keeps most first."""
        self.unanswered: dict[int, str] = {}
        """With `drop`: the records to leave out, by number, and the field for which."""
        self._last_counts = last_counts
        self.superseded: dict[int, str] = {}
        """The same of records that later ones make up for, and their labels."""
        self.wants_ids = False
        """Whether there is a reference by a natural key that records do not say and nothing can
        make, as ids would tell."""
        self.wants_schema = False
        """Whether there is a natural key of a model that has none in the schema."""
        self._found = FindingList()
        self._met: set[Finding] = set()
        self._ignore_nonexistent = ignore_nonexistent
        self._counts = True
        self.left_out: Counter[str] = Counter()
        """How many records or values of what the target does not have are left out."""
        self.excluded: Counter[str] = Counter()
        """How many records of models, and values of fields, that are excluded are left out."""
        self.replaced_nulls: Counter[str] = Counter()
        """How many nulls became what is declared for their fields."""
        self.let_go: Counter[str] = Counter()
        """How many references that nothing answers are let go, by field."""

    def __bool__(self) -> bool:
        return bool(self._found)

    def leaves_out(self, what: str, count: int = 1) -> bool:
        """Whether a model or field that the target does not have is left out; it is counted."""
        if excluded := excluded_field(what):
            if self._counts:
                self.excluded[excluded] += count
            return True
        if self._ignore_nonexistent and self._counts:
            self.left_out[what] += count
        return self._ignore_nonexistent

    def replace_null(self, path: str) -> None:
        """Count a null that becomes what is declared for its field."""
        if self._counts:
            self.replaced_nulls[path] += 1

    def lets_go(self, what: str, record: int, *, may_be_null: bool, may_dangle: bool) -> bool:
        """Whether a reference of a record that nothing answers is let go; it is counted."""
        ways = {"keep": may_dangle, "null": may_be_null, "drop": True}
        if not ways.get(self.on_dangling):
            self._settled_by = [way for way in self._settled_by or ways if ways[way]]
            return False
        if self.on_dangling == "drop":
            self.unanswered.setdefault(record, what)
        elif self._counts:
            self.let_go[what] += 1
        return True

    def lets_supersede(self, record: int, label: str) -> bool:
        """Whether a record is left out because a later one has its natural key."""
        if self._last_counts:
            self.superseded[record] = label
        return self._last_counts

    def stop_counting(self) -> None:
        """What follows has been counted before."""
        self._counts = False

    def add(
        self,
        code: str,
        what: str,
        *,
        record: int,
        model: str,
        pk: Any = None,
        pk_name: str | None = None,
        field: str | None = None,
        value: Any = ...,
        other_record: int | None = None,
    ) -> None:
        """Note one finding; `value` as the backup has it, and the record that is in the way."""
        is_hidden = is_secret(model, field)
        if is_hidden and code == REFUSED_VALUE and not what.endswith(DECLARABLE):
            what = "a value that the field does not take"
        if is_secret(model, pk_name):
            pk = None
        place = Place(
            path=self._name,
            record=self.number_in_backup(record),
            model=model,
            pk=None if pk is None else pk if isinstance(pk, str) else as_text(pk),
            field=field,
        )
        text = None if value is ... else "not shown" if is_hidden else as_text(value)
        other = None if other_record is None else self.number_in_backup(other_record)
        finding = Finding(code, what, place, text, other)
        if finding in self._met:
            return
        if len(self._met) < MAX_FINDINGS:
            self._met.add(finding)
        self._found.add(finding)

    def refuse(self, remedy: str | None = None) -> None:
        """Raise `FindingsError` if there are any, in the order of the backup."""
        if self._found:
            self._found.kept.sort(key=lambda finding: finding.place.record or 0)
            raise FindingsError(self._found, remedy=remedy or self._remedy())

    def _remedy(self) -> str:
        codes = self._found.codes
        if codes & {UNKNOWN_MODEL, UNKNOWN_FIELD}:
            return NONEXISTENT
        if self.wants_ids and DANGLING in codes:
            return ", or ".join((WITH_IDS, *self._without_references()))
        if self.wants_schema and codes & {NO_KEY, DANGLING}:
            return ", or ".join((BY_ITS_SCHEMA, *self._without_references()))
        beside = "mend the backup or the database"
        if self._settled_by == ["drop"]:
            beside = "restore a backup that has such rows together with this one"
        ways = [
            *self._without_references(),
            *self._options_named(),
            *self._defaults_to_declare(),
            *self._models_to_leave_out(),
        ]
        return ", or ".join((beside, *ways)) if ways else f"{beside}, then restore again"

    def _without_references(self) -> Iterator[str]:
        """How to do without the references that nothing answers."""
        for way in self._settled_by[:1]:
            yield f"{_WITHOUT[way]}: --on-unresolved {way}"

    def _defaults_to_declare(self) -> Iterator[str]:
        places = (one.place for one in self._found.kept if one.what.endswith(DECLARABLE))
        fields = dict.fromkeys(f"{place.model}.{place.field}" for place in places)
        if fields:
            yield " ".join(("say what rows hold:", *(f"--default {path}=VALUE" for path in fields)))

    def _options_named(self) -> Iterator[str]:
        """What the findings themselves say of a way out."""
        found = (option for kind in self._found.counts for option in _OPTION.findall(kind.what))
        options = dict.fromkeys(found)
        if options:
            yield f"allow what is said there: {', '.join(options)}"

    def _models_to_leave_out(self) -> Iterator[str]:
        models = dict.fromkeys(kind.model for kind in self._found.counts if kind.code in OF_ROWS)
        if models:
            several = "models" if len(models) > 1 else "a model"
            yield " ".join((f"leave {several} out:", *(f"--exclude {one}" for one in models)))
