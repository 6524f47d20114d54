"""What the demonstration puts on the screen: one page, for someone who has never seen fastnk."""

from __future__ import annotations

import json
import shlex
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

WIDTH = 100
MAX_DIFFERENCES = 20

GROUPS = "{:<28}{:>9}{:>23}{:>29}{:>11}"
GROUP_NAMES = ("", "in the", "keys in the place of", "rows of the new database", "now under")
COLUMNS = "{:<28}{:>9}{:>9}{:>14}{:>9}{:>9}{:>11}{:>11}"
COLUMN_NAMES = (
    *("model", "backup", "pks", "references"),
    *("created", "updated", "unchanged", "another id"),
)


class ModelLine(NamedTuple):
    """What became of one model: in the backup, in the restore, in the comparison."""

    label: str
    records: int
    converted: int
    references: int
    created: int
    updated: int
    unchanged: int
    other_ids: int


class Example(NamedTuple):
    """One row as records: in the backup, in the converted backup, in the new database."""

    before: dict[str, Any]
    converted: dict[str, Any]
    restored: dict[str, Any]


class Story(NamedTuple):
    """All that the screen shows."""

    backup_bytes: int
    rows_before: int
    """Rows of the new database before the restore."""
    rows_after: int
    legacy_format: str
    natural_format: str
    keys_written: int
    references_written: int
    example: Example
    models: list[ModelLine]
    differences: list[str]

    @property
    def is_equal(self) -> bool:
        """Whether the new database holds what the old one held, and nothing else."""
        return not self.differences


def screen(story: Story, kept: Path | None) -> Iterator[str]:
    """The lines of the screen; `kept` is the folder with the files, if they are kept."""
    yield from _systems(story)
    yield ""
    yield from _example(story.example)
    yield ""
    yield from _table(story.models)
    yield ""
    yield from _verdict(story)
    yield ""
    yield from _next_commands(kept)


def _systems(story: Story) -> Iterator[str]:
    records = sum(line.records for line in story.models)
    megabytes = story.backup_bytes / 1e6
    yield "A backup full of database ids, restored into a database with other ids"
    yield f"  old system  {records:,} rows; Django's dumpdata writes a backup of {megabytes:.1f} MB"
    yield f"  new system  starts with {story.rows_before} rows: states, roles, types, the admin"
    yield f"  detect      the backup is {story.legacy_format}"
    yield (
        f"  convert     {story.keys_written:,} pks and {story.references_written:,} references"
        f" become natural keys; now it is {story.natural_format}"
    )


def _example(example: Example) -> Iterator[str]:
    number = example.converted["natural_key"][0]
    old, new = (record["fields"]["document"] for record in (example.before, example.restored))
    yield "One record. In the backup, ids of the old database stand for rows:"
    yield from _record(example.before)
    yield "Converted, natural keys stand for them, the same in every database:"
    yield from _record(example.converted)
    yield f"Restored, with the ids of the new database (document {number} was {old}, is {new}):"
    yield from _record(example.restored)


def _record(record: dict[str, Any]) -> Iterator[str]:
    yield from textwrap.wrap(
        json.dumps(record, ensure_ascii=False),
        width=WIDTH,
        initial_indent="  ",
        subsequent_indent="     ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def _table(models: list[ModelLine]) -> Iterator[str]:
    yield GROUPS.format(*GROUP_NAMES)
    yield COLUMNS.format(*COLUMN_NAMES)
    totals = [sum(counts) for counts in zip(*(line[1:] for line in models), strict=True)]
    for label, *counts in [*models, ("all", *totals)]:
        yield COLUMNS.format(label, *(f"{count:,}" for count in counts))


def _verdict(story: Story) -> Iterator[str]:
    if story.is_equal:
        yield (
            f"EQUAL: with natural keys for ids, Django finds the same {story.rows_after:,} rows"
            " in both databases"
        )
        return
    yield (
        f"NOT EQUAL: with natural keys for ids, Django finds {len(story.differences):,} differences"
        " between the databases:"
    )
    for difference in story.differences[:MAX_DIFFERENCES]:
        yield "  " + textwrap.shorten(difference, WIDTH - 2, placeholder=" …")
    more = len(story.differences) - MAX_DIFFERENCES
    if more > 0:
        yield f"  and {more:,} more"


def _next_commands(kept: Path | None) -> Iterator[str]:
    if kept is not None:
        yield "Restored once more, the same backup changes nothing:"
        yield (
            f"  cd {shlex.quote(str(kept))} && fastnk restore natural.json"
            " --settings fastnk.demo.settings --database new"
        )
    yield "Next, with a backup of your own:"
    yield "  fastnk schema django --settings mysite.settings -o schema.json"
    yield "  fastnk convert backup.json natural.json --schema schema.json"
    yield "  fastnk restore natural.json --settings mysite.settings"
