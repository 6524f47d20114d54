"""`fastnk schema django`: make the schema of a project."""

from __future__ import annotations

import argparse
import os

from fastnk.cli.printing import LOSS, Outcome, talk
from fastnk.errors import NAME_THE_SETTINGS, UsageError
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings",
        metavar="MODULE",
        default=os.environ.get("DJANGO_SETTINGS_MODULE"),
        help="the project's settings module (default: DJANGO_SETTINGS_MODULE)",
    )
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="where to write it, else it is shown"
    )
    parser.add_argument(
        "--at",
        metavar="APP.MIGRATION",
        action="append",
        default=[],
        help="as it was at this migration, of which the beginning is enough; once for each app",
    )
    parser.add_argument(
        "--skip-untraceable",
        action="store_true",
        help="leave natural keys out whose method cannot be traced, and say which",
    )


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    from fastnk.django.schema.introspect import (
        lossy_fields,
        relations_inside_fields,
        schema_from_project,
        undeclared_generics,
    )

    if options.settings is None:
        raise UsageError("no Django project", remedy=NAME_THE_SETTINGS)
    skipped: dict[str, str] = {}
    on_untraceable = skipped.__setitem__ if options.skip_untraceable else None
    schema = schema_from_project(options.settings, on_untraceable, options.at)
    undeclared = undeclared_generics(schema)
    inside, lossy = relations_inside_fields(schema), lossy_fields(schema)
    data = {
        "schema": schema,
        "skipped": skipped,
        "undeclared": undeclared,
        "inside_fields": inside,
        "lossy": lossy,
        "output": options.output,
    }
    code = LOSS if skipped else 0
    for label, reason in skipped.items():
        talk(f"no natural key for {label}: {reason}")
    for label, kind, ids in undeclared:
        talk(f'{label}: if "{ids}" has ids of what "{kind}" names, declare a generic relation')
    for label, name in inside:
        talk(f'{label}: "{name}" is kept inside another field, declare its path in "embedded"')
    for label, field, target in lossy:
        talk(f"{label}: dumpdata leaves out of {field} what the manager of {target} hides")
    if options.output is None:
        return Outcome(data, schema.dumps().decode().rstrip(), exit_code=code)
    schema.save(options.output)
    keyed = sum(model.has_natural_key for model in schema.models.values())
    text = f"{options.output}: {len(schema.models)} models, {keyed} of them with a natural key"
    return Outcome(
        data, text, ["convert", "backup.json", "natural.json", "--schema", options.output], code
    )
