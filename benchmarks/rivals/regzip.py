"""No rival, but the floor for compressed backups: decompresses and compresses, nothing else.

What it compresses is the backup as it was, which is shorter than a converted one.
"""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

from benchmarks.rivals import files

GZIP_LEVEL = 6
"""What the command `gzip` does unless told otherwise."""


def convert(backup: Path, output: Path, schema: Path) -> None:
    with gzip.open(backup) as source, gzip.open(output, "wb", GZIP_LEVEL) as target:
        shutil.copyfileobj(source, target, 1 << 20)


if __name__ == "__main__":
    files.main(convert)
