"""`fastnk demo`: see the main job on a small system."""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from fastnk import demo
from fastnk.cli.printing import Outcome
from fastnk.progress import Progress


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--keep", metavar="FOLDER", help="keep the files and databases there")


def run(options: argparse.Namespace, progress: Progress) -> Outcome:
    out = io.StringIO()
    code = demo.run(None if options.keep is None else Path(options.keep), out)
    text = out.getvalue().rstrip()
    return Outcome({"equal": code == 0, "screen": text.splitlines()}, text, exit_code=code)
