"""Differences as they are found: all are counted, the first ones kept."""

from __future__ import annotations

from collections import Counter
from typing import Any

from fastnk.errors import MAX_MODELS, Place, too_many_models
from fastnk.verify.reading import Entry
from fastnk.verify.report import CODES, Difference, ModelSummary, Style
from fastnk.verify.values import MISSING, Repeated, encodable, id_text, shown, spelled

MAX_KEPT = 10_000
"""How many differences a report holds."""
MAX_OF_OTHER_STYLE = 100

_Kind = tuple[str, str]
"""Differences of one model with one code."""


class Findings:
    """What was found so far."""

    def __init__(self) -> None:
        self.models: dict[str, ModelSummary] = {}
        self.kept: list[Difference] = []
        self.total = 0
        self.by_code: Counter[str] = Counter()
        self.styles = _Styles()

    def model(self, label: str) -> ModelSummary:
        label = encodable(label)
        if label not in self.models:
            if len(self.models) > MAX_MODELS:
                raise too_many_models(Place())
            self.models[label] = ModelSummary()
        return self.models[label]

    def count(self, entry: Entry) -> None:
        """A record of the backup, whatever became of it."""
        self.model(entry.label).records += 1

    def add(self, one: Difference) -> None:
        self._count(one.model, one.code, 1)
        if len(self.kept) < MAX_KEPT:
            self.kept.append(one)

    def _count(self, model: str, code: str, count: int) -> None:
        self.total += count
        self.by_code[code] += count
        self.model(model).differences += count

    def is_clean(self) -> bool:
        """Whether nothing differs, and all is in one style."""
        return self.total == 0 and not self.styles.of_the_fewer()[1]

    def take_over(self, other: Findings) -> None:
        """The counts of other records, of which nothing differs either."""
        for label, theirs in other.models.items():
            ours = self.model(label)
            ours.records += theirs.records
            ours.converted_records += theirs.converted_records
            ours.keys += theirs.keys
            ours.references += theirs.references
        self.styles.take_over(other.styles)

    def judge_styles(self) -> None:
        """To be called at the end: report what is in the style of the fewer."""
        first, counts = self.styles.of_the_fewer()
        for one in first:
            self.add(one)
        more = counts - Counter((one.model, one.code) for one in first)
        for (model, code), count in more.items():
            self._count(model, code, count)

    def in_order(self) -> list[Difference]:
        """Those that were kept, in the order of the records."""
        return sorted(self.kept, key=_order)


def _order(one: Difference) -> tuple[float, float]:
    first = one.converted_record if one.record is None else one.record
    return first or 0, one.converted_record or 0


class _Styles:
    """A conversion has one style: a record in the other one has lost or gained its key."""

    def __init__(self) -> None:
        self._counts: dict[Style, Counter[_Kind]] = {"fastnk": Counter(), "django": Counter()}
        self._first: dict[Style, list[Difference]] = {"fastnk": [], "django": []}

    def note(
        self, style: Style, pair: Pair, code: str, field: str, value: Any, now: Any, what: str
    ) -> None:
        """Something in this style; the rest says what is wrong with it beside the other one."""
        self._counts[style][encodable(pair.label), code] += 1
        if len(self._first[style]) < MAX_OF_OTHER_STYLE:
            one = difference(pair.before, pair.after, code, field, value, now, what=what)
            self._first[style].append(one)

    def take_over(self, other: _Styles) -> None:
        for style, counts in other._counts.items():
            self._counts[style].update(counts)

    def most(self) -> Style | None:
        """The style of most; `None` where nothing tells."""
        fastnk, django = (counts.total() for counts in self._counts.values())
        if not fastnk and not django:
            return None
        return "fastnk" if fastnk >= django else "django"

    def of_the_fewer(self) -> tuple[list[Difference], Counter[_Kind]]:
        """What is in the other style: the first ones, and how many there are."""
        other: Style = "django" if self.most() == "fastnk" else "fastnk"
        return self._first[other], self._counts[other]


class Pair:
    """A record before and after, and what is found between them."""

    def __init__(self, before: Entry, after: Entry, findings: Findings) -> None:
        self.before = before
        self.after = after
        self.label = before.label
        self._findings = findings

    @property
    def summary(self) -> ModelSummary:
        return self._findings.model(self.label)

    def find(
        self,
        code: str,
        field: str | None = None,
        value: Any = MISSING,
        now: Any = MISSING,
        *,
        what: str | None = None,
        expected: Any = MISSING,
    ) -> None:
        self._findings.add(
            difference(
                self.before, self.after, code, field, value, now, what=what, expected=expected
            )
        )

    def note_style(
        self, style: Style, code: str, field: str, value: Any, now: Any, what: str
    ) -> None:
        """Something in this style; the rest says what is wrong with it beside the other one."""
        self._findings.styles.note(style, self, code, field, value, now, what)

    def same(self, name: str, value: Any, now: Any, *, changed: str = "FNK503") -> None:
        """A member that has to be as it was, or not to be at all."""
        if value is MISSING or now is MISSING:
            if value is not now:
                what = "a member was lost" if now is MISSING else "a member was added"
                self.find("FNK507", name, value, now, what=what)
        elif value != now:
            self.find(changed, name, value, now)

    def repeated(
        self, before: dict[str, Any], after: dict[str, Any], *, without: str | None = None
    ) -> None:
        """Members that stand twice: what does not count has to stay too, but for one that a
        conversion takes out."""
        if not (isinstance(before, Repeated) or isinstance(after, Repeated)):
            return
        old = before.earlier() if isinstance(before, Repeated) else {}
        new = after.earlier() if isinstance(after, Repeated) else {}
        for name in old.keys() | new.keys():
            was = MISSING if name == without else old.get(name, MISSING)
            self.same(name, was, new.get(name, MISSING))


def difference(
    before: Entry | None,
    after: Entry | None,
    code: str,
    field: str | None = None,
    value: Any = MISSING,
    now: Any = MISSING,
    *,
    what: str | None = None,
    expected: Any = MISSING,
) -> Difference:
    """One between a record and what was made of it, of which one may not be there."""
    one = before or after
    assert one is not None
    pk = None if before is None else before.members.get("pk")
    return Difference(
        code=code,
        what=what or CODES[code],
        model=encodable(one.label),
        pk=None if pk is None else encodable(id_text(pk) or spelled(pk)),
        field=None if field is None else encodable(field),
        record=None if before is None else before.number,
        offset=None if before is None else before.offset,
        converted_record=None if after is None else after.number,
        converted_offset=None if after is None else after.offset,
        value=shown(value),
        converted_value=shown(now),
        expected=shown(expected),
    )
