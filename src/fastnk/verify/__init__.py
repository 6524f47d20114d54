"""Shows that a conversion is faithful, with none of the code that converts.

It reads with Python's own `json` (ijson takes no `NaN`, which Python writes) and composes natural
keys from plain dicts. Slow beside the core, and meant to be: what two programs agree on that share
no code is unlikely to be the mistake of one.

The backup is read twice (rows that something refers to, then every record), the converted backup
once; the last time, of large ones, each process reads a part of both. Policies ask for more: once
for models that keep their pks, and for records that are left out as long as a reading finds more
of them; and all of it again where those are others in style `django`. In memory are the key parts
of those rows, the natural keys that methods of the project make, a digest of every natural key,
and a window on both files where they have to be brought into step again.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import os
import platform
import sys
import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec

from fastnk.errors import MAX_DEPTH, BackupSyntaxError, Place
from fastnk.policies import Policies
from fastnk.schema import Schema
from fastnk.threads import default_jobs
from fastnk.verify import parts
from fastnk.verify.comparison import Comparison
from fastnk.verify.findings import Findings
from fastnk.verify.keys import LogMetError, Rows
from fastnk.verify.leeway import COMPLETE, Leeway
from fastnk.verify.likeness import Likeness
from fastnk.verify.pairing import Arranged, Pairing
from fastnk.verify.reading import Entry, Input
from fastnk.verify.report import Style, VerificationError, VerificationReport
from fastnk.verify.values import digest, id_text

if TYPE_CHECKING:
    from fastnk.source import Backup, Progress

__all__ = ["VerificationError", "VerificationReport", "verify"]

DEEPEST = 4 * MAX_DEPTH
"""Calls on top of the usual limit: four for each level of a value."""


def verify(
    backup: Backup,
    converted: Backup,
    schema: Schema | str | os.PathLike[str],
    *,
    keys: Iterable[Backup] = (),
    policies: Policies | None = None,
    embedded: bool = False,
    any_order: bool = False,
    salvage: bool = False,
    encoding: str | None = None,
    jobs: int | None = None,
    progress: Progress | None = None,
) -> VerificationReport:
    """Compare `converted` with what `schema` makes of `backup`, record by record.

    `keys` are the further backups that supplied keys. `policies` are those of the conversion: what
    they allow is found out from the backup, has to be just so, and is counted in the report; all
    else is a difference. With `embedded` the ids inside fields were to be converted, without it
    such fields have to be as they were. With `any_order` the records may stand in another order,
    as `--order dependencies` leaves them. With `salvage` only the whole records of a damaged backup
    count. `encoding` is that of the backup. `jobs` is how many processes compare at once, without
    it as many as there are processors, up to 8. Differences are reported, not raised. Raises
    `BackupSyntaxError` for a file that cannot be read as a backup, `SchemaError`, `SourceError`,
    and `UsageError` where methods of the project make natural keys and Django is not set up.
    """
    from fastnk.source import several

    loaded = schema if isinstance(schema, Schema) else Schema.load(schema)
    proxies = loaded.proxies
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(
            Input(backup, progress, proxies, salvage=salvage, encoding=encoding)
        )
        new = stack.enter_context(Input(converted, progress, proxies))
        more = [
            stack.enter_context(Input(one, progress, proxies, salvage=salvage))
            for one in several(keys)
        ]

        def run(style: Style) -> tuple[VerificationReport, bool]:
            one = _Verification(
                loaded,
                old,
                new,
                more,
                policies or Policies(),
                style,
                embedded=embedded,
                any_order=any_order,
                jobs=default_jobs() if jobs is None else jobs,
            )
            return one.run(), one.depends_on_style

        with deep_nesting():
            report, depends_on_style = run("fastnk")
            if depends_on_style and _may_be_in_style_django(report):
                other, _ = run("django")
                if report.style == "django" or _unpaired(other) < _unpaired(report):
                    return other
            return report


def _may_be_in_style_django(report: VerificationReport) -> bool:
    """Where no natural key tells the style, the records that are left out do."""
    return report.style == "django" or (report.style is None and not report.faithful)


def _unpaired(report: VerificationReport) -> int:
    """How many records of either backup have nothing in the other."""
    return report.counts.get("FNK501", 0) + report.counts.get("FNK502", 0)


@contextlib.contextmanager
def deep_nesting() -> Iterator[None]:
    """Python's own limit does not stand in the way of what a conversion takes."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + DEEPEST)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class _Verification:
    """One run."""

    def __init__(
        self,
        schema: Schema,
        old: Input,
        new: Input,
        keys: list[Input],
        policies: Policies,
        style: Style,
        *,
        embedded: bool,
        any_order: bool,
        jobs: int,
    ) -> None:
        self._given = schema
        self._schema = schema.by_column_names()
        self._old = old
        self._new = new
        self._more = keys
        self._embedded = embedded
        self._any_order = any_order
        self._jobs = jobs
        self._policies = policies
        self._style: Style = style
        """As which records are left out."""
        self._findings = Findings()
        self._labels: set[str] = set()
        self._superseded: set[int] = set()
        """The numbers of records that are left out because a later one has their pk."""
        self._seconds: dict[str, float] = {}
        self._counts: list[int] = []
        """How many records stay in each array of an envelope."""

    def run(self) -> VerificationReport:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        if self._policies.on_duplicate_pk == "drop":
            self._superseded = self._find_superseded()
        self._rows = self._take_rows_in()
        self._leeway = Leeway(
            self._schema, self._rows, self._policies, self._superseded, self._style
        )
        self._likeness = Likeness(self._schema, self._rows, self._leeway, embedded=self._embedded)
        self._apply_policies()
        self._expect_nothing_left()
        self._rows.find_shared_keys()
        if self._any_order:
            with Arranged(self._new, self._likeness) as arranged:
                with self._phase("order"):
                    for entry in self._new.records("order"):
                        arranged.add(entry)
                    for entry in self._leeway.kept(self._old.records("order")):
                        arranged.place(entry)
                self._compare(arranged.entries())
        elif not self._is_faithful_in_parts():
            self._compare(self._new.records("compare"))
        return self._report(started)

    @property
    def depends_on_style(self) -> bool:
        return self._leeway.depends_on_style

    def _find_superseded(self) -> set[int]:
        last: dict[bytes, int] = {}
        found = set()
        with self._phase("pks"):
            for entry in self._old.records("pks"):
                pk = id_text(entry.members.get("pk"))
                if pk is None:
                    continue
                name = digest([entry.label, pk])
                if name in last:
                    found.add(last[name])
                last[name] = entry.number
        return found

    def _standing(self, phase: str) -> Iterator[Entry]:
        """The records of the backup, without those that no pass looks at."""
        entries = self._old.records(phase)
        return (entry for entry in entries if entry.number not in self._superseded)

    def _take_rows_in(self) -> Rows:
        with self._phase("rows"):
            try:
                rows = self._rows_of_backup()
            except LogMetError:
                rows = self._rows_of_backup(for_logs=True)
        if not self._labels:
            place = Place(self._old.name, 0)
            raise BackupSyntaxError("the backup holds no records", code="FNK202", place=place)
        if any(self._more or label in self._labels for label, _ in rows.methods()):
            with self._phase("methods"):
                self._call_methods(rows)
        with self._phase("keys"):
            for more in self._more:
                for entry in more.records("keys"):
                    rows.add(entry, only_keys=True)
        return rows

    def _rows_of_backup(self, *, for_logs: bool = False) -> Rows:
        null_keys = self._policies.on_null_key == "null"
        rows = Rows(self._schema, embedded=self._embedded, null_keys=null_keys, for_logs=for_logs)
        for entry in self._standing("rows"):
            self._labels.add(entry.label)
            rows.add(entry, only_keys=False)
        return rows

    def _call_methods(self, rows: Rows) -> None:
        """Have the project's methods make the keys that no fields can tell."""
        from fastnk.django.calling import called_keys

        methods = rows.methods()
        sources = [one.source for one in (self._old, *self._more)]
        for made in called_keys(self._given, sources):
            if made.key is not None and (made.label, made.method) in methods:
                rows.add_called(made.label, made.method, made.pk, made.key)

    def _apply_policies(self) -> None:
        """First which models keep their pks, then which records are left out: one that refers to
        such a record is left out with it."""
        policies = self._policies
        with self._phase("policies"):
            if "keep" in (policies.on_duplicate_key, policies.on_null_key):
                self._leeway.find_models_keeping_pks(self._standing("policies"))
            if policies.on_unresolved == "drop":
                while self._leeway.find_left_out(self._standing("policies")):
                    pass

    def _expect_nothing_left(self) -> None:
        """Where no record stays, of a backup in lines nothing does, and of an envelope itself."""
        envelope = self._old.envelope
        if self._leeway.leaves_out() and (self._old.has_lines or envelope is not None):
            is_left = self._keeps_any()
            self._new.may_be_empty = self._old.has_lines and not is_left
            self._new.may_be_hollow = None if is_left else envelope

    def _keeps_any(self) -> bool:
        return any(True for _ in self._leeway.kept(self._old.records("policies")))

    # -- by several processes --

    def _is_faithful_in_parts(self) -> bool:
        """Whether several processes found that nothing differs. Where they did not, or could not
        tell, all is still to be compared."""
        if self._leeway.leaves_out():
            return False
        with self._phase("compare"):
            found = parts.compare(self._old, self._new, self._compare_part, self._jobs)
        for one in found:
            self._findings.take_over(one.findings)
            self._leeway.take_over(one.allowed, one.generic_kept)
        return bool(found)

    def _compare_part(self, part: parts.Part, tell: parts.Tell) -> parts.Outcome:
        old = parts.Stretch(self._old.records_behind(part.old), part.old, part)
        new = parts.Stretch(self._new.records_behind(part.new), part.new, part)
        comparison = self._comparison()
        comparison.compare_all(Pairing(old.entries(tell), new.entries(), self._likeness).pairs())
        return parts.Outcome(
            [old.begin, new.begin],
            [old.end, new.end],
            new.records,
            self._findings,
            self._leeway.allowed,
            self._leeway.generic_kept,
            comparison.converted_keys,
            comparison.natural_keys,
        )

    # -- by one --

    def _comparison(self) -> Comparison:
        return Comparison(
            self._schema, self._rows, self._leeway, self._findings, embedded=self._embedded
        )

    def _compare(self, converted: Iterator[Entry]) -> None:
        kept = self._leeway.kept(self._old.records("compare"), self._findings.count)
        pairing = Pairing(self._counted(kept), converted, self._likeness)
        with self._phase("compare"):
            self._comparison().compare_all(pairing.pairs())
        self._findings.judge_styles()

    def _counted(self, kept: Iterator[Entry]) -> Iterator[Entry]:
        """Count the records that are not left out by the arrays of the envelope."""
        if self._old.envelope is None:
            yield from kept
            return
        counts = self._old.envelope.counts
        ends = list(itertools.accumulate(counts[:-1]))
        self._counts = [0] * len(counts)
        for entry in kept:
            self._counts[bisect_left(ends, entry.number)] += 1
            yield entry

    def _keeps_envelope(self) -> bool:
        old, new = self._old.envelope, self._new.envelope
        if old is None or new is None:
            return old is new or self._new.is_hollow
        return old.becomes(new, self._counts)

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._seconds[name] = time.perf_counter() - started

    def _report(self, started: str) -> VerificationReport:
        import fastnk

        old, new, more, found = self._old, self._new, self._more, self._findings
        damage, envelope_kept = old.source.damage, self._keeps_envelope()
        allowed = self._leeway.allowed
        lost = {what for counts in allowed.values() for what in counts} - set(COMPLETE)
        policies = msgspec.structs.asdict(self._policies)
        return VerificationReport(
            faithful=found.total == 0 and envelope_kept,
            backup=old.facts,
            converted=new.facts,
            keys=[one.facts for one in more],
            schema_sha256=hashlib.sha256(self._given.dumps()).hexdigest(),
            style=found.styles.most(),
            policies={name: word for name, word in policies.items() if word != "error"},
            allowed={
                name: dict(sorted(counts.items())) for name, counts in sorted(allowed.items())
            },
            generic_kept=self._leeway.generic_kept,
            complete=damage is None and not lost,
            embedded=self._embedded,
            cut_off_at=None if damage is None else damage.cut_off_at,
            damage=None if damage is None else damage.described(),
            read_as=[note for one in (old, new, *more) for note in one.source.notes],
            envelope_kept=envelope_kept,
            models=dict(sorted(found.models.items())),
            total=found.total,
            counts=dict(sorted(found.by_code.items())),
            findings=found.in_order(),
            started=started,
            seconds=self._seconds,
            versions={"fastnk": fastnk.__version__, "python": platform.python_version()},
        )
