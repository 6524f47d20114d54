"""Which rows records are that have nothing but a pk: rows that hold the same, one for each."""

from __future__ import annotations

import itertools
from collections import defaultdict, deque
from collections.abc import Mapping
from typing import Any

from fastnk.django.restore.decisions import Decisions
from fastnk.django.restore.directory import Directory
from fastnk.django.restore.lookalikes import LookAlikes
from fastnk.django.restore.rows import InBackup, Missing
from fastnk.django.restore.waiting import ByContent, Waiting, independent


class Contents:
    """Matches records by what they hold, and by what goes on under their pks or refers to them."""

    def __init__(
        self,
        directory: Directory,
        decisions: Decisions,
        waiting: list[Waiting],
        continuations: Mapping[InBackup, list[ByContent | None]],
    ) -> None:
        """Of all that waits; for `continuations` see `Needs`."""
        self._decisions = decisions
        contents = [entry for entry in waiting if isinstance(entry, ByContent)]
        self._look_alikes = LookAlikes(directory, contents)
        self._continuations = continuations
        behind = filter(None, itertools.chain.from_iterable(continuations.values()))
        self._like_continuations = LookAlikes(directory, behind)
        self._users: dict[InBackup, list[tuple[ByContent, int]]] = defaultdict(list)
        """By the row of a record that says nothing at all: what refers to it in columns that are
        unique together, and where among its soft columns."""
        self._note_users(contents)

    def match(self, entry: ByContent) -> None:
        """Match by content: best the row with the same pk, else one that nobody else claims."""
        row, content = entry.row, entry.content()
        own = row.rows.old_pk_of(row.number)
        claims = self._decisions.claims[entry.compared.label]
        alike = itertools.chain(
            [own] if own not in claims and self._look_alikes.is_like(own, content) else [],
            (
                pk
                for pk in self._look_alikes.of(content, claims)
                if not self._look_alikes.is_for_another(row, pk, content)
            ),
        )
        pk = next((pk for pk in alike if self._goes_on_alike(row, pk)), None)
        if pk is not None:
            self._decisions.claim(row, pk)
        elif not self._claims_own(entry):
            self._decisions.renumber(row)

    def settle_circles(self, circle: list[ByContent]) -> None:
        """Settle records that need each other, or what does: those at first that few rows are
        like. What unique columns tell, or may tell once others are settled, is no guess."""
        if sum(map(self._claims_own, circle)):
            return
        told_later = {entry.row for entry in circle if self._look_alikes.may_be_own(entry)}
        circle = independent(circle, told_later) or circle
        users: dict[InBackup, list[ByContent]] = defaultdict(list)
        for entry in circle:
            for row in entry.needs:
                users[row].append(entry)
        for entry in sorted(circle, key=lambda entry: len(self._look_alikes.of_part(entry))):
            if entry.row.pk is not Missing.MATCH:
                continue
            found = self._look_alikes.circle(entry, self._decisions.claims)
            if found is None or not all(itertools.starmap(self._goes_on_alike, found.items())):
                self._renumber_with_users(entry, users)
            else:
                for row, pk in found.items():
                    self._decisions.claim(row, pk)

    def _note_users(self, contents: list[ByContent]) -> None:
        """Note what tells records that say nothing, as those do whose texts are all in a table of
        translations: what refers to them in columns that are unique together."""
        silent = {entry.row for entry in contents if entry.compared.are_none}
        for entry in contents if silent else ():
            plan = entry.row.rows.plan
            names = set(itertools.chain.from_iterable(plan.sets)) - plan.special
            for place, (name, part) in enumerate(zip(entry.compared.soft, entry.soft, strict=True)):
                for row in silent.intersection(part.awaited if name in names else ()):
                    self._users[row].append((entry, place))

    def _claims_own(self, entry: ByContent) -> bool:
        """Whether the row with a record's pk is its own, having the same in unique columns."""
        own = entry.row.rows.old_pk_of(entry.row.number)
        is_own = self._look_alikes.is_own(entry) or self._goes_on_as_own(entry.row)
        if is_own and own not in self._decisions.claims[entry.compared.label]:
            self._decisions.claim(entry.row, own)
            return True
        return False

    def _goes_on_as_own(self, row: InBackup) -> bool:
        """Whether unique columns of another table, in which the record goes on, tell its row."""
        return any(
            entry is not None
            and (self._like_continuations.is_own(entry) or self._goes_on_as_own(entry.row))
            for entry in self._continuations.get(row, ())
        )

    def _goes_on_alike(self, row: InBackup, pk: Any) -> bool:
        """Whether the existing row with `pk` goes on in other tables as the record does in others,
        as far as that is known: a record that says next to nothing is like anybody's row."""
        return all(
            entry is not None
            and pk in self._like_continuations.of_part(entry)
            and self._goes_on_alike(entry.row, pk)
            for entry in self._continuations.get(row, ())
        ) and all(
            any(alike.soft[place] == pk for alike in self._look_alikes.of_part(user).values())
            for user, place in self._users.get(row, ())
        )

    def _renumber_with_users(
        self, entry: ByContent, users: dict[InBackup, list[ByContent]]
    ) -> None:
        """Renumber a record and, since nothing existing refers to it, those that need it."""
        new = deque([entry])
        while new:
            entry = new.popleft()
            if entry.row.pk is Missing.MATCH and not self._claims_own(entry):
                self._decisions.renumber(entry.row)
                new.extend(users[entry.row])
