"""Generated backups, kept from one run of the benchmarks to the next."""

from __future__ import annotations

import gzip
import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks import edms, fields, generate, limited, templates
from benchmarks.rivals.regzip import GZIP_LEVEL
from benchmarks.running import Input, say


class Store:
    """A folder of backups; each is generated unless this very generator has done so before."""

    def __init__(self, folder: Path, seed: int) -> None:
        modules = (edms, fields, generate, limited, templates)
        sources = [Path(str(module.__file__)).read_bytes() for module in modules]
        digest = hashlib.sha256(b"".join(sources)).hexdigest()
        self._folder = folder / f"{digest[:12]}-{seed}"
        self._seed = seed

    def edms(self, layout: str, megabytes: float) -> Input:
        """A backup of the imaginary document management system."""
        backup = self._made(
            f"{layout}-{megabytes:g}.json",
            lambda path: generate.generate(path, megabytes, layout, self._seed),
        )
        schema = generate.schema_path(backup)
        return Input(f"{layout} {megabytes:g} MB", backup, schema, backup.stat().st_size)

    def gzipped(self, layout: str, megabytes: float) -> Input:
        """The same, compressed."""
        plain = self.edms(layout, megabytes)

        def compress(path: Path) -> None:
            with plain.backup.open("rb") as source, gzip.open(path, "wb", GZIP_LEVEL) as target:
                shutil.copyfileobj(source, target, 1 << 20)

        backup = self._made(f"{plain.backup.name}.gz", compress)
        return plain._replace(title=f"{plain.title}, gzip", backup=backup)

    def fields(self, relations: int, megabytes: float) -> Input:
        """A backup of equal records, so many of whose fields are relations."""
        backup = self._made(
            f"fields-{megabytes:g}.json",
            lambda path: fields.generate(path, megabytes, self._seed),
        )
        title = f"{relations} relations, {megabytes:g} MB"
        schema = fields.schema_path(backup, relations)
        return Input(title, backup, schema, backup.stat().st_size)

    def limited(self, rows: int) -> Input:
        """A backup with so many rows that may be referred to."""
        backup = self._made(
            f"limited-{rows}.json", lambda path: limited.generate(path, rows, self._seed)
        )
        schema = limited.schema_path(backup)
        return Input(f"{rows:,} rows", backup, schema, backup.stat().st_size)

    def _made(self, name: str, make: Callable[[Path], None]) -> Path:
        backup = self._folder / name
        if not backup.exists():
            say(f"{name}: generating")
            unfinished = self._folder / "unfinished"
            unfinished.mkdir(parents=True, exist_ok=True)
            make(unfinished / name)
            # The backup last: where it is, its schemas are.
            for path in sorted(unfinished.iterdir(), key=lambda path: path.name == name):
                path.replace(self._folder / path.name)
            unfinished.rmdir()
        return backup
