"""Backups of a real system restored into models shaped like its own, in a project made for that.

As in that system `get_by_natural_key` is a method of the models, where `loaddata` does not look,
and a receiver of signals creates versions and audit rows, whether or not the row is `raw`.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import django
import pytest

import fastnk

FOLDER = os.environ.get("FASTNK_EDMS_BACKUPS")
pytestmark = pytest.mark.skipif(FOLDER is None, reason="FASTNK_EDMS_BACKUPS names no folder")

SETTINGS = """
import json, os
SECRET_KEY = "not a secret"
USE_TZ = True
TIME_ZONE = "UTC"
AUTH_USER_MODEL = "users.User"
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
APPS = json.loads(os.environ["EDMS_APPS"])
INSTALLED_APPS = [f"django.contrib.{name}" for name in ("contenttypes", "auth", "sessions")]
INSTALLED_APPS += [f"edms_{label}" for label in APPS]
MIGRATION_MODULES = {name: None for name in ("contenttypes", "auth", "sessions")}
DATABASES = {"default": json.loads(os.environ["EDMS_DATABASE"])}
if DATABASES["default"]["ENGINE"].endswith("mysql"):
    try:
        import MySQLdb
    except ImportError:
        import pymysql
        pymysql.install_as_MySQLdb()
"""

SHAPED = """
import json, os
from django.db import models
from django.db.models.signals import post_save

FACTS = json.loads(open(os.environ["EDMS_FACTS"]).read())["models"]
KEYS = {
    "users.user": lambda self: (self.username,),
    "users.role": lambda self: (self.name,),
    "documents.documentsource": lambda self: (self.name,),
    "placeholders.placeholderdefinition": lambda self: (self.name,),
    "users.userrole": lambda self: (self.user.natural_key()[0], self.role.natural_key()[0]),
    "documents.documenttype": lambda self: (self.code,),
    "workflows.documentstate": lambda self: (self.code,),
    "documents.document": lambda self: (self.document_number,),
    "documents.documentversion": lambda self: (
        self.document.natural_key()[0], self.version_major, self.version_minor),
    "documents.documentdependency": lambda self: (
        self.document.natural_key()[0], self.depends_on.natural_key()[0], self.dependency_type),
    "documents.documentcomment": lambda self: (self.document.natural_key()[0], str(self.id)),
    "workflows.documentworkflow": lambda self: (
        self.document.natural_key()[0], self.workflow_type),
    "workflows.documenttransition": lambda self: (
        self.workflow.natural_key()[0], self.workflow.natural_key()[1], str(self.id)),
    "audit.audittrail": lambda self: (str(self.uuid), self.timestamp.isoformat()),
    "audit.systemevent": lambda self: (str(self.uuid), self.timestamp.isoformat()),
    "security.pdfsigningcertificate": lambda self: (self.serial_number,),
}

def field(label, name, facts):
    fact = facts["fields"][name]
    options = {"null": fact.get("null", False)}
    options["primary_key"] = name == facts["pk"]
    options["unique"] = name in facts["unique"] and name != facts["pk"]
    kind = fact["type"]
    if kind in ("ForeignKey", "OneToOneField"):
        options["db_column"] = None
        if kind == "ForeignKey":
            del options["unique"]
        else:
            options.pop("unique")
        return getattr(models, kind)(
            fact["to"], models.CASCADE, to_field=fact["to_field"], related_name="+",
            null=options["null"], primary_key=options["primary_key"])
    if kind in ("AutoField", "BigAutoField"):
        return getattr(models, kind)(primary_key=True)
    if kind in ("CharField", "FileField"):
        options["max_length"] = 500
    if kind == "DecimalField":
        options.update(max_digits=12, decimal_places=4)
    if name in ("created_at", "timestamp"):
        options["auto_now_add"] = True
    if name == "updated_at":
        options["auto_now"] = True
    return getattr(models, kind)(**options)

def build(app, module):
    for label, facts in FACTS.items():
        if label.partition(".")[0] != app or facts.get("auto_created_for"):
            continue
        name = label.partition(".")[2]
        members = {n: field(label, n, facts) for n in facts["fields"]}
        for n, many in facts["m2m"].items():
            if many["through_auto_created"]:
                members[n] = models.ManyToManyField(many["to"], related_name="+")
        members["Meta"] = type("Meta", (), {
            "app_label": app, "unique_together": [tuple(u) for u in facts["unique_together"]]})
        if label in KEYS:
            members["natural_key"] = KEYS[label]
            members["get_by_natural_key"] = classmethod(lambda cls, *key: None)
        if label == "users.user":
            members.update(USERNAME_FIELD="username", REQUIRED_FIELDS=[], is_anonymous=False,
                           is_authenticated=True, name="User")
            del members["name"]
        model = type(name if label != "users.user" else "User", (models.Model,),
                     {**members, "__module__": module["__name__"], "__qualname__": name})
        module[model.__name__] = model
        if label == "documents.document":
            post_save.connect(make_version, sender=model, dispatch_uid="version")

def make_version(sender, instance, **options):
    from django.apps import apps
    apps.get_model("documents.documentversion").objects.create(
        document=instance, version_major=1, version_minor=0)
"""

SCRIPT = """
import contextlib, json, sys
import django
django.setup()
from django.core import serializers
from django.core.management import call_command
from django.apps import apps
from django.db.models import QuerySet
import fastnk
from fastnk.convert import Policies

call_command("migrate", run_syncdb=True, verbosity=0)
from django.contrib.auth.models import Group, Permission
from django.contrib.contenttypes.models import ContentType
for model in (Permission, ContentType):
    QuerySet(model).delete()  # the backup's have other ids
call_command("migrate", run_syncdb=True, verbosity=0)
backup, options = sys.argv[1], json.loads(sys.argv[2])
if "policies" in options:
    options["policies"] = Policies(**options["policies"])
planned = fastnk.restore(backup, dry_run=True, **options)
done = fastnk.restore(backup, verify=True, **options)
again = fastnk.restore(backup, **options)
rows = [row for model in apps.get_models() for row in QuerySet(model).order_by("pk")]
dump = serializers.serialize(
    "json", rows, use_natural_foreign_keys=True, use_natural_primary_keys=True)
documents = QuerySet(apps.get_model("documents.document"))
print(json.dumps({
    "documents": dict(documents.values_list("pk", "document_number")),
    "planned": planned.as_dict()["models"], "done": done.as_dict()["models"],
    "again": [again.created, again.updated], "receivers": done.receivers,
    "records": done.records, "dump": json.loads(dump)}))
"""


@pytest.fixture(scope="module")
def edms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the project."""
    folder = tmp_path_factory.mktemp("edms")
    facts = json.loads(Path(FOLDER or "", "models.json").read_bytes())
    labels = {label.partition(".")[0] for label in facts["models"]}
    for label in labels - {"admin", "auth", "contenttypes", "sessions"}:
        app = folder / f"edms_{label}"
        app.mkdir()
        config = f"class Config(AppConfig):\n    name = 'edms_{label}'\n    label = '{label}'\n"
        (app / "__init__.py").write_text("")
        (app / "apps.py").write_text(f"from django.apps import AppConfig\n{config}")
        (app / "models.py").write_text(f"import shaped\nshaped.build({label!r}, globals())\n")
    (folder / "shaped.py").write_text(SHAPED)
    (folder / "shaped_settings.py").write_text(SETTINGS)
    for name in ("natural", "mixed", "polluted", "expected", "contenttypes", "legacy.truncated"):
        data = gzip.decompress(Path(FOLDER or "", f"{name}.json.gz").read_bytes())
        (folder / f"{name}.json").write_bytes(data)
    return folder


@pytest.fixture
def restored(edms: Path, engine: str, request: pytest.FixtureRequest) -> Any:
    """Restores a backup into a fresh database of that project: what came of it, in a process."""
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(edms / "db.sqlite3")}
    Path(database["NAME"]).unlink(missing_ok=True)
    if engine != "sqlite":
        database = request.getfixturevalue(engine).make("edms")

    def run(name: str, **options: Any) -> Any:
        apps = [one.name.removeprefix("edms_") for one in sorted(edms.glob("edms_*/"))]
        places = [str(Path(module.__file__).parents[1]) for module in (fastnk, django)]
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(places),
            "DJANGO_SETTINGS_MODULE": "shaped_settings",
            "EDMS_APPS": json.dumps([app for app in apps if not app.endswith(".py")]),
            "EDMS_DATABASE": json.dumps(database),
            "EDMS_FACTS": str(Path(FOLDER or "", "models.json")),
        }
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, f"{name}.json", json.dumps(options)],
            cwd=edms,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)

    return run


def spelled(records: list[dict[str, Any]]) -> list[str]:
    """Records as sorted texts; the one value that the system spelled in another way is evened."""
    texts = [json.dumps(one, sort_keys=True).replace(".000Z", "Z") for one in records]
    return sorted(texts)


def of_models(dump: list[dict[str, Any]], backup: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The part of a dump whose models the backup has, but for what `migrate` makes."""
    labels = {one["model"] for one in backup} - {"contenttypes.contenttype", "auth.permission"}
    return [one for one in dump if one["model"] in labels]


def naming_documents(dump: list[dict[str, Any]], numbers: dict[str, str]) -> list[dict[str, Any]]:
    """The dump with numbers of documents for the ids that the audit trail has."""
    for fields in (one["fields"] for one in dump):
        if fields.get("content_type") == ["documents", "document"]:
            fields["object_id"] = numbers.get(str(fields["object_id"]), fields["object_id"])
    return dump


def counts_hold(found: Any) -> bool:
    return found["planned"] == found["done"] and found["again"] == [0, 0]


def test_legacy_backup_with_keys(edms: Path, restored: Any) -> None:
    expected = json.loads((edms / "expected.json").read_bytes())
    found = restored("legacy.truncated", keys=["contenttypes.json"], salvage=True)
    assert counts_hold(found)
    assert found["records"] == len(expected)
    legacy = json.loads((edms / "legacy.truncated.json").read_bytes() + b"]")
    numbers = {
        str(one["pk"]): one["fields"]["document_number"]
        for one in legacy
        if one["model"] == "documents.document"
    }
    assert set(numbers.values()) == set(found["documents"].values())
    dump = naming_documents(of_models(found["dump"], expected), found["documents"])
    assert spelled(dump) == spelled(naming_documents(expected, numbers))
    assert any("make_version" in one for one in found["receivers"])


def test_natural_backup_with_the_pks_that_django_loses(edms: Path, restored: Any) -> None:
    """A state is told by its code, which is its pk and in no field."""
    state = "workflows.documentstate"
    backup = json.loads((edms / "expected.json").read_bytes())
    legacy = json.loads((edms / "legacy.truncated.json").read_bytes() + b"]")
    backup = [one for one in backup if one["model"] != state]
    states = [one for one in legacy if one["model"] == state]
    (edms / "whole.json").write_text(json.dumps(states + backup))
    found = restored("whole")
    assert counts_hold(found)
    backup += [{"model": state, "fields": one["fields"]} for one in states]
    assert spelled(of_models(found["dump"], backup)) == spelled(backup)


@pytest.mark.parametrize(("name", "salvage"), [("mixed", False), ("polluted", True)])
def test_mixed_and_polluted_backup(restored: Any, name: str, salvage: bool) -> None:
    found = restored(name, salvage=salvage, ignore_nonexistent=True)
    assert counts_hold(found)
