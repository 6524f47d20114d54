"""What can go wrong, and where: the error tree and `Finding`. Imports nothing of fastnk.

Every error reads as up to three lines: a stable code and what happened, where, and what to try.
The codes are listed in `docs/errors.md`; a code never changes its meaning.
"""

from __future__ import annotations

import copyreg
from collections import Counter
from collections.abc import Iterable
from heapq import nsmallest
from typing import Any, ClassVar, NamedTuple

MAX_SHOWN = 20
"""How many findings an error message shows."""

MAX_FINDINGS = 100_000
"""How many findings are kept, a kilobyte each; more are counted."""

MAX_VALUE_SHOWN = 60
MAX_NAME_SHOWN = 250
"""Characters of a label or of a field's name. Django's have 201 at most."""

MAX_DEPTH = 1024
"""How many levels a value in a record may have. The core counts them by a constant of its own."""

RECORD_DEPTH = MAX_DEPTH + 2
"""Levels of a record: it, its `fields`, and what is in them."""

NAME_THE_ENCODING = (
    "name its encoding, such as --encoding cp1251, or convert the file:"
    " iconv -f CP1251 -t UTF-8 BACKUP > CLEAN"
)
"""What to do about a text that is not UTF-8."""

A_RECORD = 'a record is {"model": "app.model", "pk": …, "fields": {…}}'
"""What to do about what is none."""

WRONG_MEMBERS = {
    "model": ('a record has no "model"', 'the "model" of a record is not a string'),
    "fields": ('a record has no "fields"', 'the "fields" of a record are not an object'),
}
"""What is wrong with a record without that member, and with one where it is of another type."""

NAME_THE_SETTINGS = "name the project's settings: --settings mysite.settings"
"""What to do where Django is needed and not set up."""

MAX_MODELS = 10_000
"""How many different models a backup may have, as far as no schema knows them."""

MAX_FIELDS = 100_000
"""How many different fields its models may have in all, where what they hold is counted."""


class Place(NamedTuple):
    """Where in a backup something is. What is not known is `None`."""

    path: str | None = None
    """The name of the backup as the caller gave it."""
    offset: int | None = None
    """Bytes before it in the (decompressed) backup."""
    record: int | None = None
    """The record's number; the first is 1."""
    model: str | None = None
    """The model label, `app.model`."""
    pk: str | None = None
    """The record's pk as it stands in the backup; a string without its quotes."""
    field: str | None = None

    def __str__(self) -> str:
        source = self.path or "the backup"
        if self.offset is not None:
            source += f":{self.offset}"
        record = None if self.record is None else f"record {self.record}"
        pk = "" if self.pk is None else f" pk {shorten(self.pk)}"
        model = None if self.model is None else shorten(self.model, MAX_NAME_SHOWN) + pk
        field = None if self.field is None else f"field {shorten(self.field, MAX_NAME_SHOWN)}"
        return ", ".join(part for part in (source, record, model, field) if part)


class FindingKind(NamedTuple):
    """What findings of the same kind have in common."""

    code: str
    what: str
    model: str | None
    field: str | None

    def __str__(self) -> str:
        names = (shorten(name, MAX_NAME_SHOWN) for name in (self.model, self.field) if name)
        return f"{self.code} {self.what}: {'.'.join(names)}"


class Finding(NamedTuple):
    """One thing wrong with a backup, with its place."""

    code: str
    """The stable code, `FNK` and three digits."""
    what: str
    place: Place
    value: str | None = None
    """The offending value as it stands in the backup."""
    other_record: int | None = None
    """The number of the record that is in the way of this one."""

    @property
    def kind(self) -> FindingKind:
        return FindingKind(self.code, self.what, self.place.model, self.place.field)

    def __str__(self) -> str:
        value = "" if self.value is None else f" ({shorten(self.value)})"
        other = "" if self.other_record is None else f": record {self.other_record}"
        return f"{self.code} {self.what}{value}{other}\n    at {self.place}"

    def as_dict(self) -> dict[str, Any]:
        """The finding as flat JSON-ready data; unknown parts of the place are left out."""
        place = {name: value for name, value in self.place._asdict().items() if value is not None}
        further = {"value": self.value, "other_record": self.other_record}
        told = {name: value for name, value in further.items() if value is not None}
        return {"code": self.code, "what": self.what, **place, **told}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> Finding:
        """The finding that `as_dict` made `data` of."""
        place = Place(**{name: data[name] for name in Place._fields if name in data})
        return cls(data["code"], data["what"], place, data.get("value"), data.get("other_record"))


class FindingList:
    """Findings: all are counted, and some kept, so that memory has an end; of each kind one."""

    def __init__(self) -> None:
        self.kept: list[Finding] = []
        self.counts: dict[FindingKind, int] = {}

    def __bool__(self) -> bool:
        return bool(self.counts)

    @property
    def codes(self) -> set[str]:
        return {kind.code for kind in self.counts}

    def add(self, finding: Finding) -> None:
        kind = finding.kind
        count = self.counts.get(kind, 0)
        self.counts[kind] = count + 1
        if not count or len(self.kept) < MAX_FINDINGS:
            self.kept.append(finding)

    def extend(self, others: FindingList) -> None:
        """Take over what another list holds."""
        self.kept += others.kept
        for kind, count in others.counts.items():
            self.counts[kind] = self.counts.get(kind, 0) + count


class FastnkError(Exception):
    """The base of all errors that fastnk raises on purpose."""

    code: str = "FNK100"
    exit_code: ClassVar[int] = 1

    def __init__(
        self,
        what: str,
        *,
        place: Place | str | None = None,
        remedy: str | None = None,
        code: str | None = None,
    ) -> None:
        self.what = what
        self.place = place
        self.remedy = remedy
        if code is not None:
            self.code = code
        super().__init__(what)

    def __reduce__(self) -> Any:
        # By its attributes: errors come out of other processes, too, and each class takes other
        # arguments.
        return copyreg.__newobj__, (type(self), *self.args), self.__dict__  # type: ignore[attr-defined]

    def __str__(self) -> str:
        lines = [f"{self.code} {self.what}"]
        if self.place is not None:
            lines.append(f"  at {self.place}")
        if self.remedy is not None:
            lines.append(f"  try: {self.remedy}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """The error as JSON-ready data, for `--json`."""
        place = self.place
        if isinstance(place, Place):
            where: Any = {name: part for name, part in place._asdict().items() if part is not None}
        else:
            where = place
        return {"code": self.code, "what": self.what, "place": where, "remedy": self.remedy}


class UsageError(FastnkError):
    """The call itself is wrong: an option, a name, a combination."""

    code = "FNK101"
    exit_code = 2


class MissingExtraError(UsageError):
    """An optional dependency is not installed; the message names the extra."""

    code = "FNK102"

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs {package}, which is not installed",
            remedy=f'pip install "fastnk[{extra}]"',
        )


def require_django(purpose: str, oldest: tuple[int, int], remedy: str) -> None:
    """Raise `UsageError` without a Django that is as new as `oldest`; the remedy is for an older
    one."""
    try:
        import django
    except ModuleNotFoundError:
        raise MissingExtraError("Django", "django", purpose) from None
    if oldest > django.VERSION:
        needed = ".".join(map(str, oldest))
        what = f"{purpose} needs Django {needed} or newer, and this is {django.get_version()}"
        raise UsageError(what, remedy=remedy, code="FNK102")


class UnexpectedError(FastnkError):
    """Stands for an exception that nobody meant to raise, of fastnk or of a project's code."""

    code = "FNK140"


class SchemaError(UsageError):
    """A schema that cannot be used; `place` is the dotted path inside the document."""

    code = "FNK110"


class SourceError(FastnkError):
    """A backup that cannot be read: missing, not permitted, changed while it was read."""

    code = "FNK120"


class OutputError(FastnkError):
    """An output that cannot be written."""

    code = "FNK130"


class Salvage(NamedTuple):
    """What `salvage` would do with a damaged backup."""

    records: int
    """Whole records that it keeps."""
    lost_records: int
    """Records that seem to begin in what it loses."""
    lost_bytes: int
    lost_places: int
    losses: list[dict[str, Any]]
    """The lost ranges: file, first byte, byte behind the last one, what is wrong, what is there;
    the first 10,000 of them."""
    summary: str
    shown: list[str]
    """The first lost ranges, for people."""

    def as_dict(self) -> dict[str, Any]:
        data = self._asdict()
        del data["shown"]
        return data


class BackupSyntaxError(FastnkError):
    """A backup that is not what it should be: not JSON, not records, damaged, cut off."""

    code = "FNK200"
    place: Place
    salvage: Salvage | None = None
    """`None` where nothing can be salvaged, or nobody looked."""

    def __str__(self) -> str:
        if self.salvage is None:
            return super().__str__()
        lines = [f"  or: --salvage, which {self.salvage.summary}", *self.salvage.shown]
        return "\n      ".join(["\n".join([super().__str__(), lines[0]]), *lines[1:]])

    def as_dict(self) -> dict[str, Any]:
        data = super().as_dict()
        return data if self.salvage is None else {**data, "salvage": self.salvage.as_dict()}

    @property
    def offset(self) -> int:
        """Bytes before the fault in the (decompressed) backup."""
        return self.place.offset or 0


def too_deep(place: Place) -> BackupSyntaxError:
    return BackupSyntaxError(
        f"nested deeper than {MAX_DEPTH:,} levels",
        code="FNK207",
        place=place,
        remedy="no Django field nests that deep; is this file what it seems?",
    )


def too_many_models(place: Place) -> BackupSyntaxError:
    return _too_many(f"{MAX_MODELS:,} different models", place)


def too_many_fields(place: Place) -> BackupSyntaxError:
    return _too_many(f"{MAX_FIELDS:,} different fields", place)


def _too_many(what: str, place: Place) -> BackupSyntaxError:
    return BackupSyntaxError(
        f"more than {what}",
        code="FNK209",
        place=place,
        remedy="no project has so many; is this file what it seems?",
    )


class FindingsError(FastnkError):
    """Refused because of findings; nothing was written.

    `findings` has a hundred thousand of them at least, or all; `counts` how many there are of each
    kind, and `total` of all.
    """

    code = "FNK300"
    exit_code = 4

    def __init__(self, found: FindingList, *, remedy: str | None = None) -> None:
        self.found = found
        self.findings = found.kept
        self.counts = found.counts
        self.total = total = sum(self.counts.values())
        noun = "finding" if total == 1 else "findings"
        super().__init__(f"refused because of {total:,} {noun}; nothing was written", remedy=remedy)

    def __str__(self) -> str:
        shown = [str(finding) for finding in self._some()]
        more = self.total - len(shown)
        if more:
            shown += [f"and {more:,} more; in all", *self._summary()]
        head, *rest = super().__str__().split("\n")
        return "\n".join([head, *(f"  {line}" for line in shown), *rest])

    def _some(self) -> list[Finding]:
        """Those that are shown: the first of each field and code before second ones, in order."""
        met: Counter[tuple[str | None, ...]] = Counter()
        ranks = []
        for at, finding in enumerate(self.findings):
            alike = (finding.code, finding.place.model, finding.place.field)
            ranks.append((met[alike], at))
            met[alike] += 1
        return [self.findings[at] for at in sorted(at for _, at in nsmallest(MAX_SHOWN, ranks))]

    def _summary(self) -> list[str]:
        """How often each kind of finding occurs, the most first."""
        kinds = sorted(self.counts.items(), key=lambda item: -item[1])
        lines = [f"{count:>9,}  {kind}" for kind, count in kinds[:MAX_SHOWN]]
        return lines if len(kinds) <= MAX_SHOWN else [*lines, "        …"]

    def as_dict(self) -> dict[str, Any]:
        counts = [{**kind._asdict(), "count": count} for kind, count in self.counts.items()]
        findings = [finding.as_dict() for finding in self.findings]
        return {**super().as_dict(), "total": self.total, "counts": counts, "findings": findings}


class RestoreError(FastnkError):
    """A restore that did not happen: the database is as it was."""

    code = "FNK400"


class LockedError(RestoreError):
    """Another restore into the same database is under way."""

    code = "FNK401"
    exit_code = 6


class OutcomeUnknownError(RestoreError):
    """The answer to COMMIT was lost and the database cannot be asked: restored, or not at all."""

    code = "FNK402"


class NotRestoredError(RestoreError):
    """Read back, the rows were not those of the backup; everything was rolled back."""

    code = "FNK403"
    exit_code = 5


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What a message about an unknown word ends with, where one that is known is like it."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f'; did you mean "{close[0]}"?' if close else ""


def shorten(value: str, most: int = MAX_VALUE_SHOWN) -> str:
    """`value` on one line and short enough for a message."""
    line = one_line(value)
    return line if len(line) <= most else line[: most - 1] + "…"


def one_line(value: str) -> str:
    """`value` on one line, and nothing in it that would change what a terminal shows."""
    return escaped(" ".join(value.split()))


def escaped(text: str) -> str:
    """`text` with escapes for the characters that cannot be seen."""
    return text if text.isprintable() else "".join(map(_visible, text))


def _visible(character: str) -> str:
    return character if character.isprintable() else repr(character)[1:-1]
