"""`orjson` as most scripts use it: with Python's garbage collector left on.

The same as `benchmarks.rivals.orjson` otherwise. Memory is a multiple of the file.
"""

from __future__ import annotations

import functools

import orjson

from benchmarks.rivals import files

convert = functools.partial(
    files.convert_whole_file, orjson.loads, orjson.dumps, collect_garbage=True
)

if __name__ == "__main__":
    files.main(convert)
