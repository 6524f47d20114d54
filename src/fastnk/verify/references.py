"""Compares references: an id, and what stands for it now."""

from __future__ import annotations

from collections import deque
from typing import Any

from fastnk.verify.findings import Pair
from fastnk.verify.inside import (
    Paths,
    Reached,
    ids_in_text,
    references_in_text,
    references_inside,
)
from fastnk.verify.keys import AMBIGUOUS, NO_KEY, Doubt, Rows, Target
from fastnk.verify.leeway import IDS_KEPT, MADE_NULL, MEANT_LAST, TEXTS_KEPT, Instead, Leeway
from fastnk.verify.report import CODES, Style
from fastnk.verify.values import MISSING, has_null, is_reference, list_in_text


class References:
    """Knows what the ids of a backup stand for."""

    def __init__(self, rows: Rows, leeway: Leeway) -> None:
        self._rows = rows
        self._leeway = leeway

    def compare_many(
        self, pair: Pair, name: str, target: Target, values: list[Any], now: Any
    ) -> None:
        if not isinstance(now, list):
            pair.find("FNK509" if now is None else "FNK504", name, values, now)
            return
        values = self._without_lost(pair, name, target, values, now)
        if len(now) == len(values):
            for value, one in zip(values, now, strict=True):
                self.compare(pair, name, target, value, one)
            return
        rest = deque(now)
        for value in values:
            if rest and rest[0] in [value, *self._possible_keys(target, value)]:
                self.compare(pair, name, target, value, rest.popleft())
            else:
                pair.find("FNK509", name, value)
        for one in rest:
            pair.find("FNK504", name, MISSING, one, what="a reference was added")

    def _without_lost(
        self, pair: Pair, name: str, target: Target, values: list[Any], now: list[Any]
    ) -> list[Any]:
        """Without the ids that lead nowhere and are taken out for that, which through a proxy are
        others in each style."""
        kept = [one for one in values if not self._is_taken_out(target, one)]
        if target.proxy is not None:
            own = target._replace(proxy=None)
            keyed = self._rows.is_keyed(own.label)
            in_fastnk = [one for one in values if not (keyed and self._is_taken_out(own, one))]
            if len(in_fastnk) != len(kept):
                in_style: Style = "fastnk" if len(now) == len(in_fastnk) else "django"
                pair.note_style(in_style, "FNK509", name, values, now, CODES["FNK509"])
                kept = in_fastnk if in_style == "fastnk" else kept
        for _ in range(len(values) - len(kept)):
            self._leeway.use(target.policy, MADE_NULL)
        return kept

    def _is_taken_out(self, target: Target, value: Any) -> bool:
        if not self._leeway.allows(target.policy, "null") or not is_reference(value):
            return False
        instead = self._leeway.instead(target, value, self._rows.find(target, value)[1])
        return instead is not None and instead.value is None

    def _possible_keys(self, target: Target, value: Any) -> list[Any]:
        """What may stand for an id, in one style or the other."""
        if not is_reference(value):
            return []
        targets = {target, target._replace(proxy=None)}
        return [key for one in targets if (key := self._rows.find(one, value)[0]) is not None]

    def compare(self, pair: Pair, name: str, target: Target, value: Any, now: Any) -> None:
        """One reference, before and now."""
        if not is_reference(value):  # null, or natural already
            if now != value:
                pair.find("FNK509" if now is None else "FNK504", name, value, now)
        elif target.proxy is not None and target.label not in self._leeway.keeping:
            self._compare_by_proxy(pair, name, target, value, now)
        else:
            self._compare_id(pair, name, target, value, now)

    def _compare_id(self, pair: Pair, name: str, target: Target, value: Any, now: Any) -> None:
        key, doubt = self._rows.find(target, value)
        instead = self._leeway.instead(target, value, doubt)
        what = None if doubt is None else doubt.what
        if instead is not None and now == instead.value:
            self._use(instead)
        elif now is None:
            pair.find("FNK509", name, value, now, what=what)
        elif now == value:
            pair.find("FNK508", name, value, now, what=what)
        elif key is None or now != key or instead is not None:
            expected = key if instead is None else instead.value
            expected = MISSING if expected is None else expected
            pair.find("FNK504", name, value, now, what=what, expected=expected)
        else:
            self._judge_key(pair, name, value, now, doubt)

    def _use(self, instead: Instead) -> None:
        self._leeway.use(instead.policy, MADE_NULL if instead.value is None else IDS_KEPT)

    def _judge_key(self, pair: Pair, name: str, value: Any, now: Any, doubt: Doubt | None) -> None:
        """The right natural key, which may be of no use for all that."""
        if doubt == AMBIGUOUS and self._leeway.allows("on_duplicate_pk", "keep", "drop"):
            self._leeway.use("on_duplicate_pk", MEANT_LAST)
            doubt = None
        if doubt is not None:
            pair.find(doubt.code, name, value, now)
        else:
            pair.summary.references += 1

    def _compare_by_proxy(
        self, pair: Pair, name: str, target: Target, value: Any, now: Any
    ) -> None:
        """One reference through a proxy: in style django it holds the key of the proxy, in style
        fastnk that of the record itself, or its id where it has none."""
        own = target._replace(proxy=None)
        keyed = self._rows.is_keyed(own.label)
        key, doubt = self._rows.find(target, value)
        of_record = self._rows.find(own, value)[0] if keyed else value
        if key is not None and now == key != of_record:
            what = "a proxy's key beside keys of the records themselves"
            pair.note_style("django", "FNK504", name, value, now, what)
            self._judge_key(pair, name, value, now, doubt)
            return
        instead = None if keyed else self._leeway.instead(target, value, doubt)
        if instead is not None and now == instead.value:
            if now is None:  # in style fastnk it would be the id
                pair.note_style("django", "FNK509", name, value, now, CODES["FNK509"])
            self._use(instead)
            return
        if not keyed and now == value and self._has_no_key_to_write(key, doubt):
            return  # in neither style: the id stays, as the pk of its record does
        if of_record is not None and now == of_record != key:
            code, what = "FNK504", "a record's own key beside keys of proxies"
            if not keyed:
                code, what = "FNK508", CODES["FNK508"] if doubt is None else doubt.what
            pair.note_style("fastnk", code, name, value, now, what)
        if keyed:
            self._compare_id(pair, name, own, value, now)
        elif now != value:
            expected = MISSING if key is None else key
            pair.find("FNK509" if now is None else "FNK504", name, value, now, expected=expected)

    def _has_no_key_to_write(self, key: Any, doubt: Doubt | None) -> bool:
        if doubt == NO_KEY:
            return True
        return key is not None and has_null(key) and not self._leeway.allows("on_null_key", "null")

    def compare_inside(self, pair: Pair, name: str, paths: Paths, value: Any, now: Any) -> None:
        """A field with ids inside. What is none of them has to be as it was."""
        references = self._references_inside(pair, name, paths, value, now)
        if references is None:
            pair.same(name, value, now)
            return
        for end, id_, key in references:
            assert end.target is not None
            self.compare(pair, end.name, end.target, id_, key)

    def _references_inside(
        self, pair: Pair, name: str, paths: Paths, value: Any, now: Any
    ) -> list[Reached] | None:
        """The ids in a field, and what stands for them; `None` where anything else changed."""
        if not isinstance(value, str):
            return references_inside(paths, value, now)
        if not isinstance(now, str):
            return None
        if not paths.steps:  # the text is the id, and becomes a key as JSON
            if value == "" or list_in_text(value) is not None:
                return [] if now == value else None
            key = None if now == value else list_in_text(now)
            return [(paths, value, now if key is None else key)]
        ids = ids_in_text(value, paths)
        if ids is not None:
            return references_in_text(ids, value, now)
        if now != value:
            return None
        if self._leeway.allows("on_embedded", "keep"):
            self._leeway.use("on_embedded", TEXTS_KEPT)
        else:
            pair.find("FNK508", name, value, now, what="the text is not JSON: no id can be told")
        return []
