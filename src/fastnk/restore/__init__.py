"""The one restore for every backup: detect what it is, convert it, load it."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import msgspec

from fastnk.convert import Conversion, ConversionReport, LegacyBackupConverter
from fastnk.convert.policies import option_of, policy_of
from fastnk.decoding import deep_nesting
from fastnk.detect import BackupFormatDetector
from fastnk.django.restore.report import ModelCounts, RestoreOptions, RestoreReport, RestoreTarget
from fastnk.errors import (
    BackupSyntaxError,
    FindingsError,
    OutputError,
    UsageError,
    did_you_mean,
    require_django,
)
from fastnk.output import NoSink
from fastnk.policies import Policies
from fastnk.progress import INSERT, Teller
from fastnk.renames import NONEXISTENT, Renames
from fastnk.restore.chunks import read_chunks
from fastnk.restore.options import (
    defaults_by_path,
    excluded_names,
    is_field,
    policies_of_conversion,
)
from fastnk.restore.schemas import (
    held_as_keys,
    leading_to_one,
    renamed_to_many,
    schema_of_backup,
    schema_of_project,
    useless_methods,
    without_methods,
)
from fastnk.schema import Schema, plain_label
from fastnk.source import Backup, Progress, name_of, rereadable, several

__all__ = [
    "ModelCounts",
    "RestoreReport",
    "RestoreTarget",
    "UnifiedRestoreManager",
    "restore",
]


SPILLING = 8
"""Of so many bytes of a backup one may go to temporary files: fingerprints of keys, mostly."""

OLDEST = 4, 2
"""Of Django, for a restore."""

Confirm = Callable[[RestoreReport], None]

LOADERS = {"FNK304", "FNK308", "FNK309", "FNK310"}
"""Findings of the conversion that the loader can do something about: keys that do not tell rows
apart, generic references that lead to no natural key."""

ALL_BUT_UNRESOLVED = Policies(
    on_unknown_model="keep",
    on_duplicate_pk="keep",
    on_duplicate_key="keep",
    on_null_key="keep",
    on_duplicate_member="keep",
    on_generic="keep",
    on_embedded="keep",
)
"""Let everything pass but ids that no record has."""


class UnifiedRestoreManager:
    """Restores backups of any format into a database of a Django project.

    `schema` is a `Schema` or the path of one; without it the project's own is made. `database` is
    an alias of the project's `DATABASES`. `settings` names the project's settings module; without
    it Django is used as it is set up in this process, or as `DJANGO_SETTINGS_MODULE` says. With
    `dry_run` nothing is written.

    `on_existing` says what becomes of rows that exist and differ, `on_json_text` what becomes of
    texts in JSON fields that are JSON themselves, as backups of the `jsonfield` package have them.
    `exclude` leaves out, and counts, the records of apps (`app`) and models (`app.model`), and what
    records say of fields (`app.model.field`); what refers to such records finds rows of the
    database by natural keys only, or by pks that applications give. `defaults` tells by
    `app.model.field` what new rows hold where their records say nothing, and all rows where they
    say null that is not taken; as a backup would say it, a relation by natural key.
    `ignore_nonexistent` leaves out, and counts, models and fields that the project no longer has.
    `renames` tells what apps (`old`), models (`app.old`) and fields (`app.model.old`) of the backup
    are called in the project today; references, content types and permissions follow. `diff` tells
    which fields change, `verify` reads the rows back before commit, `signals` calls receivers of
    signals as `loaddata` does. `progress` is told phases, bytes done and in all; if it has
    `count_rows`, as `fastnk.progress.Progress`, that is told of rows. The other options are those
    of the conversion that a backup with ids goes through. Unless `jobs` is 1, ten thousand new rows
    and more for SQLite are made ready by a fork of this process, where it has no other threads.

    Raises `MissingExtraError` without Django, `UsageError` for a project or a database that is not
    there, `RenameError` for names that it does not have, `SchemaError`.
    """

    def __init__(
        self,
        schema: Schema | str | os.PathLike[str] | None = None,
        *,
        database: str = "default",
        settings: str | None = None,
        dry_run: bool = False,
        policies: Policies | None = None,
        keys: Iterable[Backup] = (),
        embedded: bool = False,
        salvage: bool = False,
        encoding: str | None = None,
        jobs: int | None = None,
        memory_limit: int | None = None,
        on_existing: Literal["update", "keep", "error"] = "update",
        on_json_text: Literal["error", "keep", "read"] = "error",
        exclude: Iterable[str] = (),
        defaults: Mapping[str, Any] | None = None,
        ignore_nonexistent: bool = False,
        renames: Mapping[str, str] | None = None,
        diff: bool = False,
        verify: bool = False,
        signals: bool = False,
        progress: Progress | None = None,
    ) -> None:
        _require_django()
        from fastnk.django.project import set_up

        set_up(settings)
        from fastnk.django.restore.loader import Loader

        self._is_schema_given = schema is not None
        schema = schema_of_project(schema)
        names = excluded_names(exclude)
        self._renames = Renames(renames, {name for name in names if is_field(name)})
        policies = policies_of_conversion(policies or Policies(), ignore_nonexistent)
        self._policies = policies
        self._options = options = RestoreOptions(
            on_existing=on_existing,
            on_json_text=on_json_text,
            exclude=names,
            defaults=defaults_by_path(defaults or {}),
            ignore_nonexistent=ignore_nonexistent,
            null_keys=policies.on_null_key != "error",
            duplicate_keys=policies.on_duplicate_key != "error",
            keep_generic=policies.on_generic == "keep",
            on_dangling=policies.on_unresolved,
            last_counts=policies.on_duplicate_pk == "drop",
            diff=diff,
            verify=verify,
            signals=signals,
        )
        self._teller = Teller(progress)
        self._loader = Loader(
            schema,
            database,
            dry_run=dry_run,
            options=options,
            renames=self._renames,
            jobs=jobs,
            teller=self._teller,
        )
        self._schema = schema_of_backup(schema, self._renames)
        self._encoding = encoding
        self._make_converter = partial(
            LegacyBackupConverter,
            keys=several(keys),
            policies=policies,
            embedded=embedded,
            salvage=salvage,
            encoding=encoding,
            jobs=jobs,
            memory_limit=memory_limit,
            progress=self._teller,
        )
        self._converter = self._make_converter(self._schema)

    @property
    def target(self) -> RestoreTarget:
        """The database that a restore will change."""
        return self._loader.target

    def restore_any_format(
        self, backup: Backup, *, confirm: Confirm | None = None
    ) -> RestoreReport:
        """Restore `backup` (path, bytes or binary file) in one transaction, all or nothing.

        `confirm` is told what will be done, before the first row is written; it raises to stop.
        Raises `FindingsError` and, for renames that do not fit the backup, `RenameError` before
        anything is written, `LockedError` while another restore into the database is under way,
        `RestoreError` where the database refuses, and what the conversion raises. The database is
        then as it was.
        """
        _refuse_without_room(backup)
        with rereadable(backup) as again:
            try:
                schema = self._schema_where_one_became_many(again)
                return self._restore_once_or_twice(schema, again, backup, confirm)
            except FindingsError as error:
                raise _with_remedy(error) from None

    def _restore_once_or_twice(
        self, schema: Schema, again: Backup, backup: Backup, confirm: Confirm | None
    ) -> RestoreReport:
        same = schema is self._schema
        converter = self._converter if same else self._make_converter(schema)
        try:
            return self._restore(converter, again, backup, confirm, is_first=True)
        except FindingsError as error:
            lenient = self._more_lenient(schema, error)
            if lenient is None:
                raise
        return self._restore(lenient, again, backup, confirm)

    def _schema_where_one_became_many(self, backup: Backup) -> Schema:
        """The schema in which renamed relations that lead to many today lead to one, where the
        backup has natural keys of one: lists of what no id of their targets can be."""
        renamed = renamed_to_many(self._schema, self._renames)
        if not renamed:
            return self._schema
        converter = self._make_converter(self._schema, policies=ALL_BUT_UNRESOLVED)
        try:
            with converter.converted(backup) as conversion:
                conversion.write(NoSink())
        except FindingsError as error:
            fields = held_as_keys(renamed, self._renames, error)
            return leading_to_one(self._schema, fields)
        return self._schema

    def _more_lenient(self, schema: Schema, error: FindingsError) -> LegacyBackupConverter | None:
        """A converter that lets pass what the loader can do something about, if that is all, and
        what is wrong with records that are none to restore, which it leaves out or refuses."""
        useless = useless_methods(schema, error)
        codes = LOADERS | self._codes_of_untaken(error)
        if not (error.found.codes & codes or useless):
            return None
        passed = {policy_of(code): "keep" for code in codes}
        policies = msgspec.structs.replace(self._policies, **passed)
        return self._make_converter(without_methods(schema, useless), policies=policies)

    def _codes_of_untaken(self, error: FindingsError) -> set[str]:
        """The codes of findings of the conversion that are about records alone which are none to
        restore, and whose policies are about no other finding."""
        kinds = [kind for kind in error.counts if option_of(kind.code)]
        labels = {kind.model for kind in kinds if kind.model}
        untaken = {one for one in labels if not self._takes(self._renames.label(one))}
        others = {policy_of(kind.code) for kind in kinds if kind.model not in untaken}
        return {
            kind.code
            for kind in kinds
            if kind.model in untaken and policy_of(kind.code) not in others
        }

    def _takes(self, label: str) -> bool:
        """Whether records of a model may be restored. One that the schema does not know is told as
        such (FNK302)."""
        if label in self._loader.schema.models:
            return self._loader.takes(label)
        return not self._options.excludes(label)

    def _restore(
        self,
        converter: LegacyBackupConverter,
        again: Backup,
        backup: Backup,
        confirm: Confirm | None,
        is_first: bool = False,
    ) -> RestoreReport:
        # Whatever the head looks like: an id further down must not be taken for one of the target.
        # What is natural passes through unchanged.
        with converter.converted(again) as conversion:
            if is_first:  # a second time nothing else would be found
                self._refuse_former_ids(again, backup, conversion.report.models)
            # Before anything is written: behind the commit nothing may fail any more.
            format_ = self._format(again, conversion.report)
            report = self._load(conversion, backup, confirm)
        report.conversion = conversion.report
        report.format = format_
        return report

    def _refuse_former_ids(self, again: Backup, backup: Backup, labels: Iterable[str]) -> None:
        """Raise `FindingsError` for ids of models to which relations led once. A schema that is
        given says where they lead."""
        if self._is_schema_given:
            return
        from fastnk.django.restore.former_ids import doubtful_relations, refuse_former_ids

        labels = set(map(plain_label, labels))
        doubtful = doubtful_relations(labels, self._loader.schema, self._renames)
        doubtful = {
            label: relations
            for label, relations in doubtful.items()
            if self._takes(self._renames.label(label))
        }
        if not doubtful:
            return
        # By a schema without models all records stay what they are.
        policies = msgspec.structs.replace(self._policies, on_unknown_model="keep")
        converter = self._make_converter(Schema.of({}), policies=policies, keys=())
        with converter.converted(again) as unconverted, deep_nesting():

            def chunks() -> Iterator[bytes]:
                self._teller.begin("read")
                return read_chunks(unconverted.blocks("read"))

            refuse_former_ids(chunks, doubtful, labels, name_of(backup))

    def _refuse_unknown_exclusions(self, labels: Iterable[str]) -> None:
        """Raise `UsageError` for a name that neither the project nor the backup has, or one of
        rows that have another."""
        proxies = self._loader.schema.proxies
        known = {*self._loader.schema.models, *map(self._renames.label, labels)}
        known |= {label.partition(".")[0] for label in known}
        excluded = {
            name.rpartition(".")[0] if is_field(name) else name for name in self._options.exclude
        }
        for name in sorted(excluded - (known - proxies.keys())):
            if name in proxies:
                raise UsageError(
                    f"{name} is a proxy: its rows are those of {proxies[name]}",
                    remedy=f"--exclude {proxies[name]}",
                )
            raise UsageError(
                f'nothing to exclude is called "{name}"{did_you_mean(name, known)}',
                remedy="an app or app.model of the project or the backup",
            )

    def _format(self, backup: Backup, conversion: ConversionReport) -> str | None:
        """What the head of the backup says, or where it is damaged all that is whole of it; `None`
        where that tells nothing, as a head of white space."""
        is_damaged = conversion.salvaged is not None
        detector = BackupFormatDetector(self._schema, encoding=self._encoding, salvage=is_damaged)
        try:
            return detector.detect_format(backup).format
        except BackupSyntaxError:
            return None

    def _load(
        self, conversion: Conversion, backup: Backup, confirm: Confirm | None
    ) -> RestoreReport:
        self._renames.refuse_clashes(conversion.report.models)
        self._refuse_unknown_exclusions(conversion.report.models)

        def chunks(phase: str) -> Iterator[bytes]:
            self._teller.begin(phase)
            # Two processes leave no processor to threads, which would wait for one.
            return read_chunks(conversion.blocks(phase, jobs=1 if phase == INSERT else None))

        models = conversion.report.models
        try:
            with deep_nesting():
                return self._loader.load(
                    chunks,
                    name_of(backup),
                    counts={label: counts.records for label, counts in models.items()},
                    number_in_backup=conversion.number_in_backup,
                    confirm=confirm,
                )
        except FindingsError:
            self._renames.refuse_reversed(models)  # which explains them
            raise


def restore(
    backup: Backup,
    schema: Schema | str | os.PathLike[str] | None = None,
    **options: Any,
) -> RestoreReport:
    """Restore one backup; the options are those of `UnifiedRestoreManager`."""
    return UnifiedRestoreManager(schema, **options).restore_any_format(backup)


def _with_remedy(error: FindingsError) -> FindingsError:
    """The error with what can be done about models that the project does not have."""
    if "FNK302" in error.found.codes:
        error.remedy = NONEXISTENT
    return error


def _refuse_without_room(backup: Backup) -> None:
    """Raise `OutputError` where the folder for temporary files has no room for what spills."""
    if not isinstance(backup, (str, os.PathLike)):
        return
    try:
        status = Path(backup).stat()
    except (OSError, ValueError):
        return  # which is told when it is opened
    needed = status.st_size // SPILLING if stat.S_ISREG(status.st_mode) else 0
    folder = tempfile.gettempdir()
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise OutputError(
            f"a restore may need {needed:,} bytes in {folder}, where {free:,} are free",
            remedy="TMPDIR names another folder",
        )


def _require_django() -> None:
    remedy = "restore into the project as it is with a newer Django; conversion needs none"
    require_django("a restore", OLDEST, remedy)
