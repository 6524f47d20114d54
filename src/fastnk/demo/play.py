"""The demonstration from the old system to the restored one, phase by phase."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TextIO

import django
from django.apps import apps
from django.conf import settings
from django.core import serializers
from django.core.management import call_command
from django.db import connections

import fastnk
from fastnk.demo.screen import Example, ModelLine, Story, screen
from fastnk.errors import UsageError
from fastnk.progress import Progress

if TYPE_CHECKING:
    from fastnk.demo.compare import ModelComparison

PHASES = 6
EXAMPLE = ["DOC-2025-0001", "APPROVAL"]
"""The natural key of the row that is shown before, between and after."""


class Files(NamedTuple):
    """What the demonstration makes; its settings name the databases."""

    legacy: Path
    schema: Path
    natural: Path
    old: Path
    new: Path


def play(keep: Path | None, out: TextIO) -> int:
    """See `fastnk.demo.run`."""
    if settings.configured:
        raise UsageError(
            "Django is in use in this process; the demonstration has a project of its own",
            remedy="fastnk demo",
        )
    with _folder(keep) as folder:
        files = _files(folder)
        _set_up_django(folder)
        try:
            story = _tell(files)
        finally:
            connections.close_all()
    for line in screen(story, keep):
        print(line, file=out)
    return 0 if story.is_equal else 1


@contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="fastnk-demo-") as name:
            yield Path(name)
    else:
        try:
            keep.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder {keep}: {error.strerror}") from None
        yield keep


def _files(folder: Path) -> Files:
    files = Files(
        legacy=folder / "legacy.json",
        schema=folder / "schema.json",
        natural=folder / "natural.json",
        old=folder / "old.sqlite3",
        new=folder / "new.sqlite3",
    )
    for path in files:
        if path.exists():
            raise UsageError(f"{path} is there already", remedy="name a folder that is empty")
    return files


def _set_up_django(folder: Path) -> None:
    os.environ["FASTNK_DEMO_FOLDER"] = str(folder.absolute())
    os.environ["DJANGO_SETTINGS_MODULE"] = "fastnk.demo.settings"
    django.setup()


def _tell(files: Files) -> Story:
    # These import models, which Django allows only once it is set up.
    from fastnk.demo.compare import compare_databases
    from fastnk.demo.data import fill_old_system, initialise_new_system
    from fastnk.django.schema.introspect import schema_from_apps

    with _phases() as begin:
        begin("make the old system")
        _make_tables("old")
        fill_old_system("old")
        begin("back it up with dumpdata")
        call_command("dumpdata", database="old", output=str(files.legacy), verbosity=0)
        begin("make the new system")
        _make_tables("new")
        initialise_new_system("new")
        rows_before = sum(model._base_manager.using("new").count() for model in apps.get_models())
        begin("convert the backup")
        schema = schema_from_apps()
        schema.save(files.schema)
        legacy = fastnk.detect(files.legacy, schema, full=True)
        conversion = fastnk.convert(files.legacy, files.natural, schema)
        natural = fastnk.detect(files.natural, schema, full=True)
        begin("restore it into the new system")
        restoration = fastnk.restore(files.natural, schema, database="new")
        begin("compare the two databases")
        comparisons = compare_databases("old", "new")
    return Story(
        backup_bytes=files.legacy.stat().st_size,
        rows_before=rows_before,
        rows_after=sum(comparison.new for comparison in comparisons),
        legacy_format=legacy.format,
        natural_format=natural.format,
        keys_written=conversion.keys_written,
        references_written=conversion.references_written,
        example=_example(files),
        models=[_model_line(comparison, natural, restoration) for comparison in comparisons],
        differences=[line for comparison in comparisons for line in comparison.differences],
    )


@contextmanager
def _phases() -> Iterator[Callable[[str], None]]:
    """Something to call when a phase begins, for whoever waits longer than a second."""
    progress = Progress(unit="phases")
    done = count()
    try:
        yield lambda name: progress(name, next(done), PHASES)
    finally:
        progress.close()


def _make_tables(database: str) -> None:
    call_command("migrate", database=database, run_syncdb=True, interactive=False, verbosity=0)


def _example(files: Files) -> Example:
    """One row in the backup, in the converted backup and in the new database."""
    from fastnk.demo.workflows.models import DocumentWorkflow

    legacy = json.loads(files.legacy.read_bytes())
    natural = json.loads(files.natural.read_bytes())
    number, workflow_type = EXAMPLE
    restored = DocumentWorkflow.objects.using("new").get(
        document__document_number=number, workflow_type=workflow_type
    )
    return next(
        Example(before, after, *json.loads(serializers.serialize("json", [restored])))
        for before, after in zip(legacy, natural, strict=True)
        if after.get("natural_key") == EXAMPLE
    )


def _model_line(
    comparison: ModelComparison, natural: fastnk.DetectionReport, restoration: fastnk.RestoreReport
) -> ModelLine:
    converted = natural.models[comparison.label]
    restored = restoration.models[comparison.label]
    return ModelLine(
        label=comparison.label,
        records=converted.records,
        converted=converted.with_natural_key,
        references=converted.keys,
        created=restored.created,
        updated=restored.updated,
        unchanged=restored.unchanged,
        other_ids=comparison.other_ids,
    )
