"""What may be wrong with a backup, and what is done about it."""

from __future__ import annotations

from typing import get_args, get_type_hints

import msgspec

from fastnk._core import Indexer
from fastnk.convert.report import ConversionReport
from fastnk.errors import Finding, FindingList, FindingsError, Place
from fastnk.policies import Policies
from fastnk.source import Source

CoreFinding = tuple[int, int, int, str, str | None, str | None, str | None]
"""Code, offset, record, model, field, pk and value."""

CODES: dict[int, tuple[str, str]] = {
    301: ("no record has this id", "on_unresolved"),
    302: ("the schema does not know this model", "on_unknown_model"),
    303: ("an earlier record has the same pk", "on_duplicate_pk"),
    304: ("another record has the same natural key", "on_duplicate_key"),
    305: ("the natural key has a null part", "on_null_key"),
    306: ("a member stands twice in this record", "on_duplicate_member"),
    307: (
        "the natural key cannot be made: a record on its way is missing, or its method fails",
        "on_unresolved",
    ),
    308: ("no record has this content type, or the schema lacks its model", "on_generic"),
    309: ("no record has this id (generic relation)", "on_generic"),
    310: ("the target of this generic relation has no natural key", "on_generic"),
    311: ("no record has this id (inside a field)", "on_embedded"),
    312: ("the text is not JSON, so its ids cannot be found", "on_embedded"),
}
"""By the number of a code: what is wrong, and the policy for it."""


DANGLING = ("FNK301", "FNK307", "FNK309", "FNK311")
"""Findings that a lost record may cause."""
_WITH_KEYS = {301, 307, 308, 309, 311}
"""Findings that further backups may answer, which only supply keys."""
_ABOUT_REFERENCES = ("on_unresolved", "on_generic", "on_embedded")


def policy_of(code: str) -> str:
    """The policy for what a code of a conversion is about."""
    return CODES[int(code[3:])][1]


def option_of(code: str) -> str | None:
    """What allows it on the command line, with its word where there is but one; `None` for a code
    that no conversion finds."""
    if int(code[3:]) not in CODES:
        return None
    policy = policy_of(code)
    option = "--" + policy.replace("_", "-")
    words = [one for one in get_args(get_type_hints(Policies)[policy]) if one != "error"]
    return f"{option} {words[0]}" if len(words) == 1 else option


def strict(policies: Policies) -> Policies:
    """So that all references that lead nowhere are found."""
    return msgspec.structs.replace(policies, **dict.fromkeys(_ABOUT_REFERENCES, "error"))


def lenient(policies: Policies, findings: list[Finding]) -> Policies:
    """Where a lost record may be why a reference leads nowhere, it keeps its id, if the policy for
    it is to refuse the backup and is about nothing else."""
    others = {policy_of(one.code) for one in findings if one.code not in DANGLING}
    kept = {
        name: "keep"
        for name in _ABOUT_REFERENCES
        if getattr(policies, name) == "error" and name not in others
    }
    return msgspec.structs.replace(policies, **kept)


class Findings:
    """What is found in one backup, and what the policies allow of it."""

    def __init__(self, source: Source, policies: Policies, report: ConversionReport) -> None:
        self.policies: dict[str, str] = msgspec.structs.asdict(policies)
        self.found = FindingList()
        """What no policy allows."""
        self.unmade: dict[tuple[str, str], str] = {}
        """By label and pk: why a method has made no natural key."""
        self._source = source
        self._report = report

    def take(
        self,
        found: list[CoreFinding],
        into: FindingList,
        name: str | None = None,
        keys: Source | None = None,
    ) -> None:
        """Take findings into a list. Those of the backup itself get their places when all are
        known."""
        offsets = [offset for _, offset, *_ in found]
        places = keys.places(offsets) if keys else [(None, offset) for offset in offsets]
        for (path, at), (code, _, record, model, field, pk, value) in zip(
            places, found, strict=True
        ):
            place = Place(path or name, at, record, model, pk, field)
            if code == 307 and pk is not None:
                value = self.unmade.get((model, pk), value)
            into.add(Finding(f"FNK{code}", CODES[code][0], place, value))

    def count_allowed(self, counts: dict[int, int]) -> None:
        """Take in how often a policy was needed, by the number of the code."""
        null_keys_are_written = self.policies["on_null_key"] == "null"
        applied = self._report.policies_applied
        for code, count in counts.items():
            applied[f"FNK{code}"] = applied.get(f"FNK{code}", 0) + count
            if code != 306 and not (code == 305 and null_keys_are_written):
                self._report.complete = False

    def refuse(self, indexer: Indexer) -> None:
        """Raise `FindingsError` where there is anything that no policy allows."""
        if not self.found:
            return
        self._lead_back()
        self.found.kept.sort(key=lambda one: (one.place.path or "", one.place.offset or 0))
        raise FindingsError(self.found, remedy=self._remedy(indexer))

    def _remedy(self, indexer: Indexer) -> str:
        codes = {int(code[3:]) for code in self.found.codes}
        options = sorted({option for code in self.found.codes if (option := option_of(code))})
        remedy = f"allow them with {', '.join(options)}"
        counts = indexer.model_counts()
        lacks_ids = any(known and not pks for _, known, _, pks, _ in counts)
        if 302 in codes and not any(known for _, known, *_ in counts):
            return "give the schema of this system: it knows none of the models in this backup"
        if 307 in codes and self.unmade:
            remedy += (
                ": with --on-unresolved keep, records whose key no method can make keep their pks"
            )
        if 301 in codes and lacks_ids:
            lost = "the backup holds rows without their ids, as Django's natural dumps do"
            return f"{lost}: name one with ids with --keys, or {remedy}"
        if not codes.isdisjoint(_WITH_KEYS):
            return f"name backups that hold the missing records with --keys, or {remedy}"
        return remedy

    def _lead_back(self) -> None:
        """Lead the places of findings in the backup back to its files, all in one go."""
        found = self.found.kept
        own = [i for i, one in enumerate(found) if one.place.path is None]
        offsets = [found[i].place.offset or 0 for i in own]
        for i, (path, at) in zip(own, self._source.places(offsets), strict=True):
            one = found[i]
            found[i] = one._replace(place=one.place._replace(path=path, offset=at))
