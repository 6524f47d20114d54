"""`msgspec` without types: the whole file as dictionaries. Memory is a multiple of the file.

Structs whose fields stay `msgspec.Raw` decode and encode faster, but what the schema names has to
be decoded one by one, which takes longer than was saved.
"""

from __future__ import annotations

import functools

import msgspec

from benchmarks.rivals import files

convert = functools.partial(
    files.convert_whole_file, msgspec.json.Decoder().decode, msgspec.json.Encoder().encode
)

if __name__ == "__main__":
    files.main(convert)
