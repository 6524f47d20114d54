"""Conversion to natural keys: two passes over the core, the policies, the report."""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, Literal

import msgspec

from fastnk._core import Indexer, Plan, Splicer
from fastnk.errors import BackupSyntaxError, Finding, FindingsError, Place, UsageError
from fastnk.output import Output, Sink, TemporarySink, open_sink
from fastnk.schema import KeyPart, Schema, parse_path
from fastnk.source import BLOCK_SIZE, Backup, Progress, Source

Style = Literal["fastnk", "django"]

LOG_IN_MEMORY = 4 << 20
"""Bytes of the slot log that stay in memory; a longer log goes to a temporary file."""


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """What to do about findings. `error` refuses the backup and lists them all."""

    on_unresolved: Literal["error", "keep", "null", "drop"] = "error"
    """An id that no record has: keep it, write null, or leave the record out."""
    on_unknown_model: Literal["error", "keep", "drop"] = "error"
    """A record of a model that the schema does not know: keep it as it is, or leave it out."""
    on_duplicate_pk: Literal["error", "keep"] = "error"
    """Two records with one pk: keep both; ids then mean the last one."""
    on_duplicate_key: Literal["error", "keep"] = "error"
    """Two records with one natural key: all records of the model keep their pks."""
    on_null_key: Literal["error", "keep", "null"] = "error"
    """A natural key with a null in it: the model keeps its pks, or the key is written so."""
    on_duplicate_member: Literal["error", "keep"] = "error"
    """A member that stands twice in a record: keep both; the last one counts."""
    on_generic: Literal["error", "keep"] = "error"
    """A generic relation that leads to no natural key: keep its id."""


_CODES: dict[int, tuple[str, str]] = {
    301: ("no record has this id", "on_unresolved"),
    302: ("the schema does not know this model", "on_unknown_model"),
    303: ("an earlier record has the same pk", "on_duplicate_pk"),
    304: ("an earlier record has the same natural key", "on_duplicate_key"),
    305: ("the natural key has a null part", "on_null_key"),
    306: ("a member stands twice in this record", "on_duplicate_member"),
    307: ("the natural key cannot be made: a record on its way is missing", "on_unresolved"),
    308: ("no record has this content type, or the schema lacks its model", "on_generic"),
    309: ("no record has this id (generic relation)", "on_generic"),
    310: ("the target of this generic relation has no natural key", "on_generic"),
}


class ModelCounts(msgspec.Struct, frozen=True):
    """What one model contributed."""

    records: int
    with_pk: int
    with_natural_key: int


class ConversionReport(msgspec.Struct, kw_only=True):
    """What a conversion did."""

    backup: str | None
    output: str | None
    style: Style
    complete: bool = True
    """False where a policy or `salvage` left something out or unconverted."""
    bytes_read: int = 0
    bytes_written: int = 0
    records: int = 0
    records_dropped: int = 0
    keys_written: int = 0
    """Records whose pk became a natural key."""
    references_written: int = 0
    """Ids in relation fields that became natural keys."""
    models: dict[str, ModelCounts] = {}
    pks_lost: list[str] = []
    """Models whose pk says something that the style `django` has no place for."""
    models_keeping_pks: list[str] = []
    """Models whose natural keys turned out not to identify their records."""
    policies_applied: dict[str, int] = {}
    """How often, by the code of the finding."""
    salvaged: str | None = None
    """With `salvage`: what was wrong and what is lost."""
    seconds: dict[str, float] = {}
    """Wall time by phase."""
    key_map_bytes: int = 0


class LegacyBackupConverter:
    """Converts backups with one schema; prepared once, used any number of times.

    `keys` are further backups whose records only supply keys. `block_size` is how many bytes are
    read at once. Raises `SchemaError` for a schema that cannot be loaded.
    """

    def __init__(
        self,
        schema: Schema | str | os.PathLike[str],
        *,
        keys: Iterable[Backup] = (),
        policies: Policies | None = None,
        style: Style = "fastnk",
        salvage: bool = False,
        force: bool = False,
        block_size: int = BLOCK_SIZE,
        progress: Progress | None = None,
    ) -> None:
        if style not in ("fastnk", "django"):
            raise UsageError(f'no style "{style}"', remedy="fastnk or django")
        self._schema = schema if isinstance(schema, Schema) else Schema.load(schema)
        self._plan = compile_plan(self._schema)
        self._keys = tuple(keys)
        self._policies = policies or Policies()
        self._style: Style = style
        self._salvage = salvage
        self._force = force
        self._block_size = block_size
        self._progress = progress

    def convert_to_natural_keys(
        self, backup: Backup, output: Output | TemporarySink
    ) -> ConversionReport:
        """Convert `backup` (path, bytes or binary file) into `output` (path or binary file).

        The output appears only when it is complete. Raises `BackupSyntaxError` for a damaged
        backup, `FindingsError` for findings that no policy allows, `SourceError`, `OutputError`,
        and `UsageError` where the output exists or is the backup.
        """
        with Source(backup, self._block_size) as source:
            sink = open_sink(output, force=self._force, source=source.identity())
            try:
                report = _Conversion(self, source, sink).run()
                if isinstance(output, (str, os.PathLike)):
                    report.output = os.fspath(output)
            except BaseException:
                sink.discard()
                raise
            started = time.perf_counter()
            sink.commit()
            report.seconds["commit"] = time.perf_counter() - started
            return report

    def convert_bytes(self, data: bytes) -> bytes:
        """Convert a backup in memory. Raises as `convert_to_natural_keys` does."""
        with Source(data, self._block_size) as source:
            sink = MemorySink()
            _Conversion(self, source, sink).run()
            return sink.value()


def convert(
    backup: Backup,
    output: Output,
    schema: Schema | str | os.PathLike[str],
    **options: Any,
) -> ConversionReport:
    """Convert one backup; the options are those of `LegacyBackupConverter`."""
    return LegacyBackupConverter(schema, **options).convert_to_natural_keys(backup, output)


class MemorySink:
    """Collects the output in memory."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes | memoryview) -> None:
        self._parts.append(bytes(data))

    def restart(self) -> None:
        self._parts.clear()

    def commit(self) -> None:
        pass

    def discard(self) -> None:
        self._parts.clear()

    def value(self) -> bytes:
        return b"".join(self._parts)


class SlotLog:
    """The log between the passes: parts in order, each with the offset that it covers up to."""

    def __init__(self) -> None:
        self._parts: list[tuple[bytes, int]] = []
        self._sizes: list[tuple[int, int]] = []
        self._in_memory = 0
        self._file: IO[bytes] | None = None

    def append(self, part: bytes, covered: int) -> None:
        self._parts.append((part, covered))
        self._in_memory += len(part)
        if self._in_memory > LOG_IN_MEMORY:
            self._spill()

    def _spill(self) -> None:
        if self._file is None:
            self._file = tempfile.TemporaryFile()
        self._file.writelines(part for part, _ in self._parts)
        self._sizes += [(len(part), covered) for part, covered in self._parts]
        self._parts.clear()
        self._in_memory = 0

    def __iter__(self) -> Iterator[tuple[bytes, int]]:
        if self._file is not None:
            self._file.seek(0)
            for size, covered in self._sizes:
                yield self._file.read(size), covered
            self._file.seek(0, os.SEEK_END)
        yield from self._parts

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class _Conversion:
    """One run of a converter."""

    def __init__(self, converter: LegacyBackupConverter, source: Source, sink: Sink) -> None:
        self._converter = converter
        self._source = source
        self._sink = sink
        self._indexer = Indexer(
            converter._plan,
            name=source.name,
            policies=msgspec.structs.asdict(converter._policies),
            django_style=converter._style == "django",
        )
        self._log = SlotLog()
        self._findings: list[Finding] = []
        self._tail = b""
        self._report = ConversionReport(backup=source.name, output=None, style=converter._style)

    def run(self) -> ConversionReport:
        try:
            with self._phase("index"):
                self._index()
            with self._phase("keys"):
                self._index_keys()
            with self._phase("splice"):
                self._splice()
        finally:
            self._log.close()
        self._refuse_findings()
        self._report.key_map_bytes = self._indexer.key_map_bytes
        return self._report

    @contextlib.contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self._report.seconds[name] = time.perf_counter() - started

    def _index(self) -> None:
        indexer, report = self._indexer, self._report
        try:
            for block in self._source.watched("index", self._converter._progress):
                report.bytes_read += len(block)
                indexer.feed(block)
                self._take()
            indexer.finish()
            self._take()
            self._log.append(b"", report.bytes_read)
        except BackupSyntaxError as error:
            self._take()
            self._salvage(error)
        report.records = indexer.records
        report.models = {
            label: ModelCounts(records, with_pk, with_key)
            for label, _, records, with_pk, with_key in indexer.model_counts()
        }
        report.pks_lost = self._lost_pks()

    def _lost_pks(self) -> list[str]:
        """Models met whose pk is no mere number, where Django's natural dump leaves it out."""
        if self._converter._style != "django":
            return []
        models = self._converter._schema.models
        return [
            label
            for label, counts in self._report.models.items()
            if counts.with_pk and (model := models.get(label)) and model.pk_says_something
        ]

    def _take(self) -> None:
        """Move what the indexer has found since the last time out of the core."""
        # Not up to `consumed`: a record that is dropped takes the separator in front with it.
        self._log.append(self._indexer.take_log(), self._indexer.records_end)
        self._find(self._indexer.take_findings())

    def _salvage(self, error: BackupSyntaxError) -> None:
        """Go on with the whole records before the place where the backup is cut off."""
        records = self._indexer.records
        if not self._converter._salvage or error.code != "FNK205" or records == 0:
            if error.code == "FNK205":
                error.what += f"; {records:,} whole records stand before"
            raise error
        self._tail = b"\n]\n" if self._indexer.is_array else b"\n"
        lost = error.offset - self._indexer.records_end
        self._report.salvaged = (
            f"{error.what}, at byte {error.offset}; kept {records:,} whole records,"
            f" lost {lost:,} bytes behind them"
        )
        self._report.complete = False

    def _index_keys(self) -> None:
        for number, backup in enumerate(self._converter._keys, start=1):
            with Source(backup, self._converter._block_size) as source:
                name = source.name or f"keys {number}"
                self._indexer.start_keys(name)
                for block in source.watched("keys", self._converter._progress):
                    self._indexer.feed(block)
                self._indexer.finish()
                self._find(self._indexer.take_findings(), name)

    def _splice(self) -> None:
        """Write the output; again from the start when a record is dropped or a model keeps its
        pks, because what was written before may refer to it."""
        again = True
        while again:
            self._sink.restart()
            self._report.bytes_written = 0
            splicer = Splicer(self._indexer)
            parts = iter(self._log)
            position = 0
            for block in self._source.watched("splice", self._converter._progress):
                position += len(block)
                while splicer.covered < position and (part := next(parts, None)):
                    splicer.push_log(*part)
                self._write(splicer.feed(block))
            splicer.finish()
            again = splicer.again
        self._write(self._tail)
        self._find(splicer.take_findings())
        self._count_policies(self._indexer.policy_counts())
        self._count_policies(splicer.policy_counts())
        report = self._report
        report.keys_written = splicer.keys_written
        report.references_written = splicer.references_written
        report.records_dropped = splicer.dropped
        report.models_keeping_pks = splicer.models_with_pks()
        if report.records_dropped or report.models_keeping_pks:
            report.complete = False

    def _write(self, data: bytes | memoryview) -> None:
        if data and not self._findings:
            self._report.bytes_written += len(data)
            self._sink.write(data)

    def _find(self, found: list[CoreFinding], name: str | None = None) -> None:
        for code, offset, record, model, field, pk, value in found:
            place = Place(name or self._source.name, offset, record, model, pk, field)
            self._findings.append(Finding(f"FNK{code}", _CODES[code][0], place, value))

    def _count_policies(self, counts: dict[int, int]) -> None:
        null_keys_are_written = self._converter._policies.on_null_key == "null"
        applied = self._report.policies_applied
        for code, count in counts.items():
            applied[f"FNK{code}"] = applied.get(f"FNK{code}", 0) + count
            if code != 306 and not (code == 305 and null_keys_are_written):
                self._report.complete = False

    def _refuse_findings(self) -> None:
        if not self._findings:
            return
        self._findings.sort(key=lambda finding: (finding.place.path or "", finding.place.offset))
        raise FindingsError(self._findings, total=len(self._findings), remedy=self._remedy())

    def _remedy(self) -> str:
        codes = {int(finding.code[3:]) for finding in self._findings}
        options = sorted({"--" + _CODES[code][1].replace("_", "-") for code in codes})
        remedy = f"allow them with {', '.join(options)}"
        if 302 in codes and not any(known for _, known, *_ in self._indexer.model_counts()):
            return "give the schema of this system: it knows none of the models in this backup"
        if 301 in codes:
            return f"name backups that hold the missing records with --keys, or {remedy}"
        return remedy


# ---- the schema in the form that the core needs ---------------------------------------------


def compile_plan(schema: Schema) -> Plan:
    """The core's plan for `schema`."""
    return _Compiler(schema).plan()


class _Compiler:
    """Decides which columns and indexes every model's rows need."""

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._numbers = {label: number for number, label in enumerate(schema.models)}
        self._columns: dict[str, dict[str, int]] = {label: {} for label in schema.models}
        self._indexes: dict[str, list[str]] = {label: [] for label in schema.models}
        self._paths: list[tuple[list[Any], int, str | None]] = []
        self._relations: list[tuple[bytes, int, int, bool]] = []

    def plan(self) -> Plan:
        schema = self._schema
        operations = {
            label: None if model.natural_key is None else self._operations(label, model.natural_key)
            for label, model in schema.models.items()
        }
        relations = {
            label: {name: self._relation(label, name) for name in model.relations}
            for label, model in schema.models.items()
        }
        self._index_generic_targets()
        # The columns of generic relations come behind: rows need not keep what only the record
        # itself has to show.
        row_columns = {label: len(columns) for label, columns in self._columns.items()}
        generics = {label: self._generics(label) for label in schema.models}
        models = [
            {
                **self._model(label, relations[label]),
                "natural": operations[label],
                "row_columns": row_columns[label],
                "generics": generics[label],
            }
            for label in self._numbers
        ]
        return Plan(models, self._paths, self._relations)

    def _model(self, label: str, relations: dict[str, int]) -> dict[str, Any]:
        columns = self._columns[label]
        model = self._schema.models[label]
        pk = model.pk
        pk_relation = model.relations.get(pk)
        parent_link = pk_relation is not None and pk_relation.parent_link
        return {
            "label": label.encode(),
            "keep_pk": model.keep_pk,
            "parent_link": parent_link,
            "pk_relation": relations.get(pk, _NOWHERE),
            "columns": len(columns),
            "pk_column": columns.get(pk, _NOWHERE),
            "fields": [
                (name.encode(), columns.get(name, _NOWHERE), relations.get(name, _NOWHERE))
                for name in dict.fromkeys([*columns, *relations])
                if name != pk or parent_link
            ],
            "indexes": [
                _NOWHERE if field == pk else columns[field] for field in self._indexes[label]
            ],
        }

    def _index_generic_targets(self) -> None:
        """A generic relation may lead to any model, by way of its content types."""
        models = self._schema.models
        types = {
            model.relations[generic.content_type].to
            for model in models.values()
            for generic in model.generic_relations.values()
        }
        for label in types:
            self._column(label, "app_label")
            self._column(label, "model")
        if types:
            for label, model in models.items():
                if model.natural_key is not None:
                    self._index(label, None)

    def _generics(self, label: str) -> list[tuple[bytes, int, int, int, int, int, int]]:
        model = self._schema.models[label]
        found = []
        for generic in model.generic_relations.values():
            relation = model.relations[generic.content_type]
            types = relation.to
            found.append(
                (
                    generic.object_id.encode(),
                    self._column(label, generic.content_type),
                    self._column(label, generic.object_id),
                    self._numbers[types],
                    self._index(types, relation.to_field),
                    self._column(types, "app_label"),
                    self._column(types, "model"),
                )
            )
        return found

    def _relation(self, label: str, name: str) -> int:
        relation = self._schema.models[label].relations[name]
        index = _NOWHERE
        if self._schema.models[relation.to].natural_key is not None:
            index = self._index(relation.to, relation.to_field)
        target = self._numbers[relation.to]
        self._relations.append((name.encode(), target, index, relation.many))
        return len(self._relations) - 1

    def _index(self, label: str, field: str | None) -> int:
        """The number of the index that finds rows of `label` by `field`; the pk's is always 0."""
        indexes = self._indexes[label]
        pk = self._schema.models[label].pk
        if not indexes:
            indexes.append(pk)
        field = pk if field is None else self._schema.field_name(label, field)
        if field not in indexes:
            self._column(label, field)
            indexes.append(field)
        return indexes.index(field)

    def _column(self, label: str, field: str) -> int:
        columns = self._columns[label]
        return columns.setdefault(self._schema.field_name(label, field), len(columns))

    def _operations(self, label: str, parts: list[KeyPart]) -> list[int]:
        operations = [_OPEN]
        for part in parts:
            if isinstance(part, str):
                operations.append(self._path(label, part))
            else:
                operations += self._operations(label, part)
        return [*operations, _CLOSE]

    def _path(self, label: str, part: str) -> int:
        names, field, transform = parse_path(part)
        hops = []
        for number, name in enumerate(names):
            column = self._column(label, name)
            relation = self._schema.models[label].relations[self._schema.field_name(label, name)]
            index = self._index(relation.to, relation.to_field)
            label = relation.to
            rest = "__".join([*names[number + 1 :], field])
            positions, rest_transform = self._positions(label, rest, transform)
            hops.append((column, self._numbers[label], index, positions, rest_transform))
        self._paths.append((hops, self._column(label, field), transform))
        return len(self._paths) - 1

    def _positions(
        self, label: str, rest: str, transform: str | None
    ) -> tuple[list[int], str | None]:
        """Where the rest of a path stands in the natural key of `label` (the number of the part,
        of the part in that part, …) and what is still to be done with what stands there."""
        parts = self._schema.models[label].natural_key or []
        found = self._place_of(label, (rest, transform), parts)
        if transform is not None and not found:
            return self._place_of(label, (rest, None), parts), transform
        return found, None

    def _place_of(
        self, label: str, wanted: tuple[str, str | None], parts: list[KeyPart]
    ) -> list[int]:
        path = self._schema.spelled_out(label, wanted[0])
        for number, part in enumerate(parts):
            if isinstance(part, list):
                if found := self._place_of(label, wanted, part):
                    return [number, *found]
                continue
            names, field, transform = parse_path(part)
            own = self._schema.spelled_out(label, "__".join([*names, field]))
            if (own, transform) == (path, wanted[1]):
                return [number]
        return []


_NOWHERE = -1
_OPEN = -1
_CLOSE = -2
CoreFinding = tuple[int, int, int, str, str | None, str | None, str | None]
