"""fastnk, on one thread. Memory is a buffer and the key map."""

from __future__ import annotations

from pathlib import Path

from benchmarks.rivals import files
from fastnk.convert import convert as convert_backup


def convert(backup: Path, output: Path, schema: Path) -> None:
    convert_backup(backup, output, schema)


if __name__ == "__main__":
    files.main(convert)
