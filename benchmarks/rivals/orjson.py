"""`orjson`: the whole file as dictionaries. Memory is a multiple of the file."""

from __future__ import annotations

import functools

import orjson

from benchmarks.rivals import files

convert = functools.partial(files.convert_whole_file, orjson.loads, orjson.dumps)

if __name__ == "__main__":
    files.main(convert)
