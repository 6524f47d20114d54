"""Python's own `json`: the whole file as dictionaries. Memory is a multiple of the file.

`json.dumps` and not `json.dump`, which is written in Python and takes several times as long.
"""

from __future__ import annotations

import functools
import json

from benchmarks.rivals import files

encode = json.JSONEncoder(ensure_ascii=False).encode


def dumps(value: object) -> bytes:
    return encode(value).encode()


convert = functools.partial(files.convert_whole_file, json.loads, dumps)

if __name__ == "__main__":
    files.main(convert)
