"""`python -m fastnk` is the command `fastnk`."""

from fastnk.cli import console

console()
