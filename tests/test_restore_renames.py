"""Backups that call models and fields otherwise than the project does today."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType

import fastnk
from fastnk.cli import main
from fastnk.django.introspect import schema_from_apps
from fastnk.errors import FindingsError
from fastnk.renames import RenameError, Renames, parse_renames
from fastnk.schema import Embedded, GenericRelation, Model, Relation, Schema
from tests import databases
from tests import zoo as backups
from tests.project.zoo import models as zoo
from tests.test_restore import (
    STYLES,
    counts,
    keeper,
    keyed,
    record,
    without_lost_pks,
    without_status,
)
from tests.zoo import SCHEMA, Record, by_keys, put, rows, tables

MODELS = {"animal": "beast", "keeper": "warden", "person": "human", "collar": "collar"}
FIELDS = {
    "animal": {"species": "kind", "keepers": "carers", "habits": "ways", "enclosure": "cage"},
    "keeper": {"mentor": "chief", "name": "called"},
    "species": {"code": "sign"},
    "collar": {"animal": "beast"},
    "diet": {"animal": "beast"},
    "status": {"code": "word"},
    "sticker": {"content_type": "sort", "object_id": "thing_id"},
    "vet": {"person_ptr": "human_ptr"},
    "memo": {"parent": "above"},
}
RENAMES = {
    "park": "zoo",
    **{f"park.{MODELS[name]}": f"zoo.{name}" for name in MODELS if MODELS[name] != name},
    **{
        f"park.{MODELS.get(name, name)}.{old}": f"zoo.{name}.{new}"
        for name, fields in FIELDS.items()
        for new, old in fields.items()
    },
}
"""Zoo, animal and their fields were once called otherwise."""


# How the tests age a backup: by hand, one value after the other.


def aged(record: Record) -> Record:
    """A record as the project wrote it when it used the old names."""
    app, _, name = record["model"].partition(".")
    names = FIELDS.get(name, {}) if app == "zoo" else {}
    result = {key: aged_value(value) for key, value in record.items() if key != "model"}
    result["model"] = f"park.{MODELS.get(name, name)}" if app == "zoo" else record["model"]
    for holder in ("fields", "references"):
        if holder in result:
            members = record[holder].items()
            result[holder] = {names.get(key, key): aged_value(one) for key, one in members}
    fields = result["fields"]
    if record["model"] == "contenttypes.contenttype":
        [fields["app_label"], fields["model"]] = aged_value([fields["app_label"], fields["model"]])
    return result


def aged_value(value: Any) -> Any:
    """A value in which content types and permissions have the old names."""
    if not isinstance(value, list):
        return value
    if len(value) == 2 and value[0] == "zoo":
        return ["park", MODELS.get(value[1], value[1])]
    if len(value) == 3 and value[1] == "zoo" and "_" in str(value[0]):
        return [aged_codename(value[0]), "park", MODELS.get(value[2], value[2])]
    return [aged_value(one) for one in value]


def aged_codename(codename: str) -> str:
    action, _, name = codename.partition("_")
    return f"{action}_{MODELS.get(name, name)}"


def aged_backup(records: list[Record]) -> list[Record]:
    kinds = {
        one["pk"]: one["fields"]["app_label"]
        for one in records
        if one["model"] == "contenttypes.contenttype" and one.get("pk") is not None
    }
    result = []
    for one in records:
        old = aged(one)
        if one["model"] == "auth.permission":
            kind = one["fields"]["content_type"]
            app = kind[0] if isinstance(kind, list) else kinds[kind]
            if app == "zoo":
                codename = aged_codename(old["fields"]["codename"])
                text = f"Can {codename.replace('_', ' ')}"
                changed = codename != old["fields"]["codename"]
                old["fields"] |= {"codename": codename} | ({"name": text} if changed else {})
        result.append(old)
    return result


restore = partial(fastnk.restore, schema=SCHEMA, renames=RENAMES)


def as_bytes(records: list[Record]) -> bytes:
    return json.dumps(records).encode()


@pytest.fixture(params=STYLES)
def young(request: pytest.FixtureRequest, renew: Callable[[str], str]) -> list[Record]:
    """The full zoo in each style, with the names of today, without what Django's style loses."""
    alias = renew("old")
    backups.fill(alias)
    records = json.loads(json.dumps(STYLES[request.param](alias)))
    return without_lost_pks(records) if request.param == "django" else records


def expected(young: list[Record], contents: dict[str, list[str]]) -> dict[str, list[str]]:
    models = {one["model"] for one in young}
    if "zoo.status" not in models:
        contents = without_status(contents)
    return {label: told for label, told in contents.items() if label in models}


def test_whole_zoo_under_other_names(engine: str, new: str, young: list[Record]) -> None:
    old = f"{engine}_old"
    data = as_bytes(aged_backup(young))
    text = data.decode()
    assert '"zoo.' not in text
    assert '"zoo"' not in text
    held = {one["model"] for one in json.loads(data)}
    names = {key: new for key, new in RENAMES.items() if key.rpartition(".")[0] in {*held, "park", ""}}
    report = restore(data, database=new, renames=names)
    assert expected(young, by_keys(new)) == expected(young, by_keys(old))
    assert report.records == len(young)
    assert report.renamed["park.beast -> zoo.animal"] == 3
    before = tables(new)
    again = restore(data, database=new, renames=names)
    assert counts(again) == (0, 0, len(young), 0)
    assert tables(new) == before
