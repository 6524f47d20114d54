"""The floor of a restore: finished rows into the same tables, by `COPY` or `executemany`.

    python -m benchmarks.rivals.raw_rows take TEMPLATE_SETTINGS ROWS
    python -m benchmarks.rivals.raw_rows put ROWS

`take` keeps the rows that a restored database has more than the template. `put` writes them into
a fresh one in one transaction and shows the seconds from the first row to the end of COMMIT:
neither start-up nor the making of the rows is in it.
"""

from __future__ import annotations

import json
import os
import pickle
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any


def settings() -> dict[str, Any]:
    return dict(json.loads(os.environ["BENCHMARK_DATABASE"]))


def connect(of: dict[str, Any]) -> Any:
    if of["ENGINE"].endswith("sqlite3"):
        return sqlite3.connect(of["NAME"])
    import psycopg

    return psycopg.connect(dbname=of["NAME"], user=of["USER"], host=of["HOST"])


def tables(connection: Any) -> list[str]:
    if isinstance(connection, sqlite3.Connection):
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'"
    else:
        query = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    return [name for (name,) in connection.execute(f"{query} ORDER BY 1")]


def key_of(table: str) -> str:
    return "code" if table == "workflows_documentstate" else "id"


def take(template: dict[str, Any], path: Path) -> None:
    """Write the rows that are new to `path`."""
    with connect(template) as before:
        keys = {
            table: [key for (key,) in before.execute(f"SELECT {key_of(table)} FROM {table}")]
            for table in tables(before)
        }
    with connect(settings()) as connection, path.open("wb") as file:
        for table, old in keys.items():
            known = ", ".join(repr(key) for key in old) or "NULL"
            query = f"SELECT * FROM {table}"
            query += f" WHERE {key_of(table)} NOT IN ({known})" if old else ""
            pickle.dump((table, list(_rows(connection, query))), file)


def _rows(connection: Any, query: str) -> Any:
    if isinstance(connection, sqlite3.Connection):
        return connection.execute(query).fetchall()
    with connection.cursor().copy(f"COPY ({query}) TO STDOUT") as copy:
        return [bytes(line) for line in copy]


def put(path: Path) -> float:
    """Insert the rows; the seconds that took."""
    content = []
    with path.open("rb") as file:
        while file.peek(1):
            content.append(pickle.load(file))
    connection = connect(settings())
    started = time.perf_counter()
    for table, rows in content:
        if not rows:
            continue
        if isinstance(connection, sqlite3.Connection):
            places = ", ".join("?" * len(rows[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({places})", rows)
        else:
            with connection.cursor().copy(f"COPY {table} FROM STDIN") as copy:
                for row in rows:
                    copy.write(row)
    connection.commit()
    return time.perf_counter() - started


if __name__ == "__main__":
    if sys.argv[1] == "take":
        take(json.loads(sys.argv[2]), Path(sys.argv[3]))
    else:
        print(json.dumps({"seconds": put(Path(sys.argv[2]))}))
