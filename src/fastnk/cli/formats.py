"""`fastnk formats`: list what is read."""

from __future__ import annotations

import argparse

from fastnk.cli.printing import Outcome, table
from fastnk.formats import DJANGO_VERSIONS, HEAD, ROWS, cells
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    pass


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    data = {"formats": [row._asdict() for row in ROWS], "django": DJANGO_VERSIONS}
    plain = [[cell.replace("`", "") for cell in row] for row in cells()]
    return Outcome(data, "\n".join(table(HEAD, plain)))
