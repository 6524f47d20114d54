"""What is read, and how: the table behind `fastnk formats`, the tests and `docs/formats.md`."""

from __future__ import annotations

from typing import Literal, NamedTuple

Kind = Literal["container", "shape", "encoding", "damage"]
How = Literal["yes", "named", "salvage", "refused"]
"""`named`: with `--encoding`; `salvage`: with `--salvage`, else an error that says what is lost."""


class Row(NamedTuple):
    """One thing that a backup may be."""

    kind: Kind
    name: str
    how: How = "yes"
    """The same for `detect`, `convert` and `restore`, because all open backups in one way."""
    note: str = ""


ROWS = (
    Row("container", "plain file", note="read at any place, by several threads"),
    Row("container", "gzip", note="faster with the extra `fast`"),
    Row("container", "gzip of several members"),
    Row("container", "gzip in gzip", note="up to four compressions and archives in one another"),
    Row("container", "bzip2"),
    Row("container", "xz"),
    Row("container", "lzma"),
    Row("container", "zstd", note="needs the extra `fast`"),
    Row("container", "zip"),
    Row("container", "tar"),
    Row("container", "compressed tar"),
    Row("container", "tar of compressed files"),
    Row("container", "zip in a compressed stream", note="without its directory, file by file"),
    Row("container", "zip in a tar", note="the same"),
    Row("container", "compressed tar in a zip"),
    Row("container", "tar in a tar"),
    Row("container", "zip with a password", "refused"),
    Row("container", "EDMS package", note="its checksum is verified, the rest left alone"),
    Row("container", "folder", note="one backup, with references across files"),
    Row("container", "list of files", note="the same; each has to hold records"),
    Row("container", "pipe", note="what can be read only once is copied to a temporary file"),
    Row("container", "URL", note="needs the extra `url`"),
    Row("container", "package with a path that climbs out", "refused"),
    Row("container", "package with a link", "refused"),
    Row("container", "package with another checksum", "refused"),
    Row("shape", "array"),
    Row("shape", "JSON Lines"),
    Row("shape", "several arrays", note="written as one"),
    Row("shape", "envelope", note="up to 16 MiB around the records are kept byte for byte"),
    Row(
        "shape",
        "envelope with several arrays",
        note="one per model, say; all stay in their places",
    ),
    Row("shape", "one file per model"),
    Row("shape", "arrays and JSON Lines in one folder", note="written as one array"),
    Row("shape", "XML fixture", note="by Django, slower; needs the project's settings"),
    Row("shape", "YAML fixture", note="by Django, slower; needs the extra `yaml`; up to 256 MiB"),
    Row("shape", "XML with entities", "refused"),
    Row("shape", "YAML with object tags", "refused"),
    Row("encoding", "UTF-8"),
    Row("encoding", "UTF-8 with a byte order mark", note="written without it"),
    Row("encoding", "UTF-16 LE with a byte order mark", note="written as UTF-8, as all others"),
    Row("encoding", "UTF-16 BE with a byte order mark"),
    Row("encoding", "UTF-16 LE"),
    Row("encoding", "UTF-16 BE"),
    Row("encoding", "XML fixture in UTF-16", note="whatever encoding it declares"),
    Row("encoding", "cp1252", note="where all of it fits and nothing in it is UTF-8"),
    Row("encoding", "Latin-1", "named", note="`--encoding latin-1`"),
    Row("damage", "text before the first record", "salvage"),
    Row("damage", "text after the last record", "salvage"),
    Row("damage", "no closing bracket", "salvage"),
    Row("damage", "cut in a record", "salvage"),
    Row("damage", "cut in a string", "salvage"),
    Row("damage", "cut in a character", "salvage"),
    Row("damage", "cut in a gzip stream", "salvage"),
    Row("damage", "cut in a zip", "salvage", "its directory is gone: file by file"),
    Row("damage", "cut in a tar", "salvage"),
    Row("damage", "damaged file in a zip", "salvage", "the other files are kept"),
    Row("damage", "trailing comma", "salvage"),
    Row("damage", "missing comma", "salvage"),
    Row("damage", "NUL bytes at the end", "salvage"),
    Row("damage", "corrupt record in the middle", "salvage"),
    Row("damage", "bytes that are no UTF-8 in a record", "salvage"),
    Row("damage", "cut in UTF-16", "salvage"),
    Row("damage", "XML fixture cut in a record", "salvage"),
    Row("damage", "corrupt record in a YAML fixture", "salvage", "where each begins its own line"),
    Row("damage", "no whole record", "refused"),
)
DJANGO_VERSIONS = ("4.2", "5.2")
"""Those whose dumps and databases the tests use."""

_WORDS = {
    "yes": ("yes", "yes", "yes"),
    "named": ("with `--encoding`",) * 3,
    "salvage": ("with `--salvage`",) * 3,
    "refused": ("refused",) * 3,
}
HEAD = ("what", "", "detected", "converted", "restored", "")


def cells() -> list[tuple[str, ...]]:
    """The table, row by row."""
    rows = [(row.kind, row.name, *_WORDS[row.how], row.note) for row in ROWS]
    return rows + [("Django", one, "yes", "yes", "yes", "") for one in DJANGO_VERSIONS]


def markdown() -> str:
    """The table as the documentation has it."""
    lines = [HEAD, ("---",) * len(HEAD), *cells()]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
