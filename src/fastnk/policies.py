"""The policies of a conversion, as data: what is done about what is wrong with a backup."""

from __future__ import annotations

from typing import Literal, get_args, get_origin, get_type_hints

import msgspec

from fastnk.errors import UsageError


class Words(msgspec.Struct, frozen=True, kw_only=True):
    """Options, some of which take one of a few words. Raises `UsageError` for any other."""

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            word = getattr(self, name)
            if get_origin(kind) is Literal and word not in (words := get_args(kind)):
                raise UsageError(f'no {name} "{word}"', remedy=", ".join(words))


class Policies(Words, frozen=True, kw_only=True):
    """What to do about findings. `error` refuses the backup and lists them all."""

    on_unresolved: Literal["error", "keep", "null", "drop"] = "error"
    """An id that no record has: keep it, write null, or leave the record out."""
    on_unknown_model: Literal["error", "keep", "drop"] = "error"
    """A record of a model that the schema does not know: keep it as it is, or leave it out."""
    on_duplicate_pk: Literal["error", "keep", "drop"] = "error"
    """Two records with one pk: keep both, where ids mean the last one, or leave out all but the
    last one."""
    on_duplicate_key: Literal["error", "keep"] = "error"
    """Two records with one natural key: all records of the model keep their pks."""
    on_null_key: Literal["error", "keep", "null"] = "error"
    """A natural key with a null in it: the model keeps its pks, or the key is written so."""
    on_duplicate_member: Literal["error", "keep"] = "error"
    """A member that stands twice in a record: keep both; the last one counts."""
    on_generic: Literal["error", "keep"] = "error"
    """A generic relation that leads to no natural key: keep its id."""
    on_embedded: Literal["error", "keep"] = "error"
    """An id inside a field that no record has, or a text that should be JSON: keep it."""
