"""The arguments that several verbs share, and what is made of them."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

if TYPE_CHECKING:
    from fastnk.policies import Policies
    from fastnk.source import Backup

SETTINGS = "DJANGO_SETTINGS_MODULE"

SCHEMA = "schema.json"
"""The name of a schema that nobody has named."""


def add_backups_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "backups",
        metavar="BACKUP",
        nargs="+",
        help="a file, a folder, a URL, - for standard input; or several that make up one backup",
    )


def add_keys_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keys",
        metavar="MORE",
        action="append",
        default=[],
        help="a further backup that only supplies keys; any number of times",
    )


def add_reading_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--encoding", metavar="NAME", help="of the backup, such as cp1252; found out without it"
    )
    parser.add_argument(
        "--salvage", action="store_true", help="only the whole records of a damaged backup count"
    )


def add_embedded_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--embedded",
        action="store_true",
        help="also the ids inside JSON fields and text that the schema declares",
    )


def add_methods_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--settings",
        metavar="MODULE",
        help="the project's settings module, for natural keys made by methods and for XML"
        " (default: DJANGO_SETTINGS_MODULE)",
    )


def add_jobs_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        help="how much is done at once; without it as much as there are processors, up to 8",
    )


def add_resource_arguments(parser: argparse.ArgumentParser) -> None:
    add_jobs_argument(parser)
    parser.add_argument(
        "--memory-limit",
        metavar="SIZE",
        type=_bytes,
        help="past this, as 256M or 2G, the key map moves to temporary files",
    )


def _bytes(text: str) -> int:
    """A number of bytes, also as `256M`."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    unit = units.get(text[-1:].upper())
    try:
        return int(text) if unit is None else int(float(text[:-1]) * unit)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f'"{text}" is no size, as 256M or 2G are') from None


def _report_file(path: str) -> str:
    """A file that can be written: when the work is done it is too late to find that out."""
    place = Path(path) if Path(path).exists() else Path(path).parent
    if Path(path).is_dir() or not os.access(place, os.W_OK):
        raise argparse.ArgumentTypeError(f"cannot write {path}")
    return path


def add_conversion_arguments(parser: argparse.ArgumentParser) -> None:
    """What `convert`, `verify` and `restore` have in common."""
    add_keys_argument(parser)
    add_reading_arguments(parser)
    add_embedded_argument(parser)
    parser.add_argument(
        "--report",
        metavar="FILE",
        type=_report_file,
        help="write the whole report there, as JSON",
    )
    add_policy_arguments(parser)


FOUND = {
    "on_unresolved": "an id that no record has",
    "on_unknown_model": "a model that the schema does not know",
    "on_duplicate_pk": "two records with one pk",
    "on_duplicate_key": "two records with one natural key",
    "on_null_key": "a natural key with a null in it",
    "on_duplicate_member": "a member that stands twice",
    "on_generic": "a generic relation that leads to no natural key",
    "on_embedded": "an id inside a field that no record has",
}
"""What each policy is about."""


def add_policy_arguments(parser: argparse.ArgumentParser) -> None:
    """An option for every policy, with the words that it takes."""
    from fastnk.policies import Policies

    group = parser.add_argument_group("what to do about findings (default: error)")
    for name, hint in get_type_hints(Policies).items():
        group.add_argument(
            f"--{name.replace('_', '-')}",
            choices=get_args(hint),
            default="error",
            metavar="WORD",
            help=f"{FOUND[name]}: {' | '.join(get_args(hint))}",
        )


def policies(options: argparse.Namespace) -> Policies:
    from fastnk.policies import Policies

    return Policies(**{name: getattr(options, name) for name in Policies.__struct_fields__})


def one_or_several(backups: list[str]) -> Backup:
    return backups[0] if len(backups) == 1 else backups


def output_for(backups: list[str]) -> str:
    """What the next command may call a conversion of these."""
    usual = Path("natural.json")
    return "converted.json" if usual in map(Path, backups) else str(usual)


def project_again(options: argparse.Namespace) -> list[str]:
    """What stands in the next command for the project, also if nobody has named it yet."""
    return ["--settings", options.settings or os.environ.get(SETTINGS) or "mysite.settings"]


def set_up_project(settings: str | None) -> None:
    if settings is not None:
        from fastnk.django.schema.introspect import set_up

        set_up(settings)


def keys_again(options: argparse.Namespace) -> list[str]:
    """What a command on the same backup needs to give the same keys."""
    words = []
    for more in options.keys:
        words += ["--keys", more]
    if options.embedded:
        words.append("--embedded")
    return words + (["--settings", options.settings] if options.settings else [])


def read_again(options: argparse.Namespace) -> list[str]:
    """What a command on the same backup needs to read it in the same way."""
    words = ["--encoding", options.encoding] if options.encoding else []
    return [*words, "--salvage"] if options.salvage else words
