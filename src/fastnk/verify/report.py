"""What a verification found: the report, and what is in it."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec

from fastnk.errors import MAX_SHOWN, FastnkError, Place, shorten

Style = Literal["fastnk", "django"]

CODES = {
    "FNK501": "the record is missing",
    "FNK502": "the record is not in the backup",
    "FNK503": "the value changed",
    "FNK504": "the reference leads elsewhere",
    "FNK505": "several records share this natural key",
    "FNK506": "the natural key is not that of the record",
    "FNK507": "a member was lost or added",
    "FNK508": "an id was left as it is",
    "FNK509": "the reference was lost",
    "FNK510": "several records of the backup have this id",
}


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """One thing in which the conversion is not faithful, with its place in both backups.

    Records are numbered from 1; offsets are bytes before the record. What is not there, or not
    known, is `None`.
    """

    code: str
    what: str
    model: str
    pk: str | None = None
    field: str | None = None
    record: int | None = None
    offset: int | None = None
    converted_record: int | None = None
    converted_offset: int | None = None
    value: str | None = None
    """What the backup holds, as JSON."""
    converted_value: str | None = None
    expected: str | None = None
    """What should stand there, where that is neither of the two."""

    @property
    def place(self) -> Place:
        """Where in the backup."""
        return Place(None, self.offset, self.record, self.model, self.pk, self.field)

    @property
    def converted_place(self) -> Place:
        """Where in the converted backup."""
        offset, record = self.converted_offset, self.converted_record
        return Place("the converted backup", offset, record, self.model, None, self.field)

    def __str__(self) -> str:
        values = {"was": self.value, "is": self.converted_value, "should be": self.expected}
        told = [f"{name} {shorten(value)}" for name, value in values.items() if value is not None]
        lines = [f"{self.code} {self.what}" + (f" ({', '.join(told)})" if told else "")]
        if self.record is not None:
            lines.append(f"    at {self.place}")
        if self.converted_record is not None:
            lines.append(f"    at {self.converted_place}")
        return "\n".join(lines)


class FileFacts(msgspec.Struct, frozen=True):
    """One of the files, so that it can be told later that it is the same."""

    name: str | None
    bytes: int
    sha256: str
    records: int


class ModelSummary(msgspec.Struct):
    """What was compared of one model."""

    records: int = 0
    """In the backup."""
    converted_records: int = 0
    keys: int = 0
    """Records whose pk became their own natural key."""
    references: int = 0
    """Ids that became the natural key of the very record they stood for."""
    differences: int = 0


class VerificationReport(msgspec.Struct, kw_only=True):
    """What a verification found; with all that a file on compliance has to say."""

    faithful: bool = True
    """Whether nothing differs."""
    backup: FileFacts
    converted: FileFacts
    keys: list[FileFacts]
    schema_sha256: str
    """Of the schema as `Schema.dumps` writes it."""
    style: Style | None
    """In which style most records were converted; `None` where none was."""
    policies: dict[str, str]
    """Those that were not `error`, by name."""
    allowed: dict[str, dict[str, int]]
    """By policy: what it left out, kept or made null, and how often."""
    generic_kept: int
    """Generic references that lead nowhere and keep their ids, as the schema allows."""
    complete: bool
    """False where `salvage` or a policy left something out or unconverted."""
    embedded: bool
    """Whether the ids inside fields were to be converted too."""
    cut_off_at: int | None
    """With `salvage`: the byte at which the backup ends too early."""
    damage: str | None
    """With `salvage`: what of the backup is lost, and so not compared."""
    read_as: list[str]
    """What the files are packed in and how they are encoded, where they are not plain."""
    envelope_kept: bool
    """Whether what stands around the records is the same, byte for byte."""
    models: dict[str, ModelSummary]
    total: int
    """How many differences there are."""
    counts: dict[str, int]
    """How many, by code."""
    findings: list[Difference]
    """The differences in the order of the records, the first 10,000 of them."""
    started: str
    """UTC, ISO 8601."""
    seconds: dict[str, float]
    """Wall time by phase."""
    versions: dict[str, str]

    def check(self) -> None:
        """Raise `VerificationError` unless the conversion is faithful."""
        if not self.faithful:
            raise VerificationError(self)


class VerificationError(FastnkError):
    """A conversion that is not faithful."""

    code = "FNK500"
    exit_code: ClassVar[int] = 5

    def __init__(self, report: VerificationReport) -> None:
        self.report = report
        noun = "difference" if report.total == 1 else "differences"
        super().__init__(f"not a faithful conversion: {report.total:,} {noun}")

    def __str__(self) -> str:
        shown = [str(one) for one in self.report.findings[:MAX_SHOWN]]
        if self.report.total > len(shown):
            shown.append(f"and {self.report.total - len(shown):,} more; in all")
            counts = sorted(self.report.counts.items())
            shown += [f"{count:>9,}  {code} {CODES[code]}" for code, count in counts]
        return "\n".join([super().__str__(), *(f"  {line}" for line in shown)])

    def as_dict(self) -> dict[str, Any]:
        return {**super().as_dict(), "report": msgspec.to_builtins(self.report)}
