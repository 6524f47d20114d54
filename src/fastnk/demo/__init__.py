"""The demonstration: `fastnk demo`. Imports Django only when it runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import TextIO

from fastnk.errors import MissingExtraError


def run(keep: Path | None = None, out: TextIO = sys.stdout) -> int:
    """Play the main job on two SQLite databases and show on `out` what happened.

    The files are made in `keep`, or in a temporary folder that is removed afterwards. Configures
    Django, so it can run once in a process and not in one that uses Django already.

    Returns 0 when the restored database equals the old one by natural keys, 1 when it does not.
    Raises `MissingExtraError` without Django, `UsageError` when Django is in use or `keep` holds
    an earlier demonstration, and whatever detection, conversion and restore raise.
    """
    if importlib.util.find_spec("django") is None:
        raise MissingExtraError("Django", "django", "the demonstration")
    from fastnk.demo.play import play

    return play(keep, out)
