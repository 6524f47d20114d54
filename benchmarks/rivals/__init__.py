"""One file per rival: `python -m benchmarks.rivals.NAME IN OUT SCHEMA` converts one backup.

Rivals do what a careful engineer's script would do, and no more: they refuse ids without a row,
but do not look for duplicate keys, do not say where anything is, and leave a damaged output
behind when they stop half-way.
"""
