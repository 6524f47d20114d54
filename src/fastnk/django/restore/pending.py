"""Values that hold pks of other rows, which may not be known yet."""

from __future__ import annotations

from typing import Any, NamedTuple

from fastnk.django.restore.directory import Row
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.values import Inside, as_in_json, converted


class PkOf(NamedTuple):
    """The pk of a row, as a field holds it."""

    row: Row
    field: Any

    @property
    def value(self) -> Any:
        """The pk in the field's type, or one of `Missing`."""
        pk = self.row.pk
        return pk if isinstance(pk, Missing) else converted(self.field, pk)

    @property
    def awaited(self) -> list[InBackup]:
        """The row, if its pk is not decided yet."""
        is_awaited = isinstance(self.row, InBackup) and self.row.pk is Missing.MATCH
        return [self.row] if is_awaited and isinstance(self.row, InBackup) else []


class IdInside(NamedTuple):
    """An id inside a value."""

    item: Any
    """What the backup has in its place: an id, or a natural key."""
    held: Any
    """The id in the target, or the `PkOf` that it will be."""

    @property
    def spelled(self) -> Any:
        """The id as JSON has it: of its own kind for a key, of the kind of the old id for that."""
        new = as_in_json(settled(self.held))
        if isinstance(self.item, list):
            return new
        if str(new) == str(self.item):
            return self.item
        return str(new) if isinstance(self.item, str) else new


class WithIds(NamedTuple):
    """A value that holds ids of other rows."""

    raw: Any
    """The value in the backup."""
    inside: Inside
    ids: list[IdInside]
    """In the order in which they stand there."""
    field: Any

    @property
    def value(self) -> Any:
        """The value in the field's type, or one of `Missing`."""
        held = {settled(one.held) for one in self.pks}
        for missing in (Missing.MATCH, Missing.PK):
            if missing in held:
                return missing
        spelled = iter([one.spelled for one in self.ids])
        return converted(self.field, self.inside.replaced(self.raw, lambda *_: next(spelled)))

    @property
    def awaited(self) -> list[InBackup]:
        """The rows whose pks are not decided yet."""
        return [row for one in self.pks for row in one.held.awaited]

    @property
    def pks(self) -> list[IdInside]:
        """The ids that are pks of rows."""
        return [one for one in self.ids if isinstance(one.held, PkOf)]


def as_far_as_known(whole: WithIds) -> Any:
    """The value, if the pks in it are known by now."""
    now = whole.value
    return whole if isinstance(now, Missing) else now


Pending = PkOf | WithIds
"""What a column will hold once the pks of other rows are known."""
PENDING = (PkOf, WithIds)


def settled(value: Any) -> Any:
    """What a column holds, if that is known by now."""
    return value.value if isinstance(value, PENDING) else value
