"""The records of an imaginary document management system, as endless as anyone wants.

Shapes and proportions follow the backup of a real one: most bytes are audit trail, task results
and access log, whose text is full of escaped JSON. Documents are more frequent than there, because
that system was days old and had so few that its key map would be no work at all.

A row names a template of `benchmarks.templates` and gives the values for its slots, spelled as
they stand in the backup.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import date
from random import Random
from typing import Any, NamedTuple
from uuid import UUID

Row = tuple[str, int, dict[str, Any]]
"""A model label, the number of one of its templates, and the values of the slots."""

USERS = "users.user"
SCHEMA: dict[str, Any] = {
    "version": 1,
    "models": {
        "contenttypes.contenttype": {"natural_key": ["app_label", "model"]},
        "django_celery_results.taskresult": {},
        "users.user": {
            "natural_key": ["username"],
            "relations": {"manager": {"to": USERS}, "created_by": {"to": USERS}},
        },
        "users.role": {
            "natural_key": ["name"],
            "relations": {"inherits_from": {"to": "users.role"}, "created_by": {"to": USERS}},
        },
        "users.userrole": {
            "natural_key": ["user__username", "role__name"],
            "relations": {
                "user": {"to": USERS},
                "role": {"to": "users.role"},
                "assigned_by": {"to": USERS},
            },
        },
        "documents.documenttype": {
            "natural_key": ["code"],
            "relations": {"created_by": {"to": USERS}},
        },
        "documents.document": {
            "natural_key": ["document_number"],
            "relations": {
                "document_type": {"to": "documents.documenttype"},
                "author": {"to": USERS},
                "approver": {"to": USERS},
                "reviewers": {"to": USERS, "many": True},
                "supersedes": {"to": "documents.document"},
            },
        },
        "documents.documentversion": {
            "natural_key": ["document__document_number", "version_major", "version_minor"],
            "relations": {"document": {"to": "documents.document"}, "created_by": {"to": USERS}},
        },
        "documents.documentaccesslog": {
            "relations": {"document": {"to": "documents.document"}, "user": {"to": USERS}},
        },
        "workflows.documentstate": {"pk": "code", "natural_key": ["code"]},
        "workflows.documentworkflow": {
            "natural_key": ["document__document_number", "workflow_type"],
            "relations": {
                "document": {"to": "documents.document"},
                "current_state": {"to": "workflows.documentstate", "to_field": "code"},
                "initiated_by": {"to": USERS},
                "current_assignee": {"to": USERS},
            },
        },
        "workflows.documenttransition": {
            "natural_key": [
                "workflow__document__document_number",
                "workflow__workflow_type",
                "id|str",
            ],
            "relations": {
                "workflow": {"to": "workflows.documentworkflow"},
                "from_state": {"to": "workflows.documentstate", "to_field": "code"},
                "to_state": {"to": "workflows.documentstate", "to_field": "code"},
                "transitioned_by": {"to": USERS},
            },
        },
        "audit.audittrail": {
            "natural_key": ["uuid|str", "timestamp|isoformat"],
            "relations": {
                "user": {"to": USERS},
                "content_type": {"to": "contenttypes.contenttype"},
            },
        },
    },
}

DOCUMENTS_PER_USER = 10
TASKS_PER_DOCUMENT = 10
ACCESSES_PER_DOCUMENT = 8
AUDITS_PER_DOCUMENT = 24
FEWEST_DOCUMENTS = 4
FEWEST_USERS = 5
MAX_REVIEWERS = 3

STATES = (
    "DRAFT",
    "PENDING_REVIEW",
    "UNDER_REVIEW",
    "PENDING_APPROVAL",
    "APPROVED_PENDING_EFFECTIVE",
    "EFFECTIVE",
    "SUPERSEDED",
    "OBSOLETE",
)
TYPES = ("SOP", "WIN", "POL", "RPT", "MAN", "FRM")
ROLES = (
    "Document Author",
    "Document Reviewer",
    "Document Approver",
    "Prüfer für Geräte",
    'Auditor ("external")',
    "Administrator",
)
WORKFLOWS = ("DOCUMENT_APPROVAL", "UP_VERSION")
FIRST_NAMES = ("ada", "jürgen", "zoë", "ken", "łukasz", "mei", "søren", "inés", "omar", "ruth")
LAST_NAMES = ("novak", "schäfer", "okafor", "tanaka", "o'brien", "garcía", "lind", "patel", "silva")

Dice = Callable[[int], int]
"""A number of that many random bits."""


class Plan(NamedTuple):
    """How many of what."""

    documents: int
    users: int

    @classmethod
    def of(cls, documents: int) -> Plan:
        documents = max(documents, FEWEST_DOCUMENTS)
        return cls(documents, max(documents // DOCUMENTS_PER_USER, FEWEST_USERS))


def rows(documents: int, seed: int) -> Iterator[Row]:
    """Every record for that many documents, in the order in which `dumpdata` writes models."""
    plan = Plan.of(documents)
    for label, make in MAKERS.items():
        # Each model has its own dice, so that a change to one leaves the others as they are.
        yield from make(plan, Random(f"{seed}/{label}").getrandbits)


def _content_types(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(len(SCHEMA["models"])):
        yield "contenttypes.contenttype", number, {}


def _tasks(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(plan.documents * TASKS_PER_DOCUMENT):
        started = number * 21_000 + dice(14)
        values = {
            "pk": number + 533,
            "task": _uuid(dice),
            "worker": f"{dice(48):012x}",
            "count": dice(10),
            "started": _stamp(started),
            "done": _stamp(started + dice(12)),
        }
        yield "django_celery_results.taskresult", dice(8), values


def _users(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(plan.users):
        first, last = _name(number)
        joined = _stamp(number * 350_000 + dice(18))
        values = {
            "pk": _user(number),
            "password": f"{dice(256):064x}",
            "uuid": _uuid(dice),
            "username": _username(number),
            "first": first.capitalize(),
            "last": last.capitalize(),
            "login": _stamp(number * 350_000 + dice(30)),
            "joined": joined,
            # Both earlier and later rows: a reference that points ahead is nothing special.
            "manager": "null" if number % 6 == 0 else _user(dice(24) % plan.users),
            "creator": "null" if number == 0 else _user(0),
        }
        yield USERS, 0, values


def _roles(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(len(ROLES)):
        yield "users.role", number, {"uuid": _uuid(dice)}


def _user_roles(plan: Plan, dice: Dice) -> Iterator[Row]:
    pk = 0
    for number in range(plan.users):
        for role in sorted({number % len(ROLES), number // 2 % len(ROLES)}):
            pk += 1
            values = {
                "pk": pk,
                "uuid": _uuid(dice),
                "user": _user(number),
                "role": role + 1,
                "assigned": _stamp(number * 350_000 + dice(18)),
                "assigner": _user(0),
            }
            yield "users.userrole", 0, values


def _document_types(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(len(TYPES)):
        yield "documents.documenttype", number, {"uuid": _uuid(dice)}


def _documents(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(plan.documents):
        created = number * 360_000 + dice(18)
        reviewer = dice(24) % plan.users
        values = {
            "pk": _document(number),
            "uuid": _uuid(dice),
            "number": _document_number(number),
            "state": STATES[dice(3)],
            "type": number % len(TYPES) + 1,
            "author": _user(dice(24) % plan.users),
            "approver": "null" if dice(2) == 0 else _user(dice(24) % plan.users),
            "size": 20_000 + dice(18),
            "checksum": f"{dice(256):064x}",
            "created": _stamp(created),
            "updated": _stamp(created + dice(28)),
            "supersedes": _superseded(plan, number),
        }
        for place in range(MAX_REVIEWERS):
            values[f"reviewer{place}"] = _user((reviewer + place) % plan.users)
        yield "documents.document", dice(5), values


def _versions(plan: Plan, dice: Dice) -> Iterator[Row]:
    pk = 0
    for number in range(plan.documents):
        for major in range(1, 2 + number % 2):
            pk += 1
            values = {
                "pk": pk,
                "uuid": _uuid(dice),
                "document": _document(number),
                "major": major,
                "created": _stamp(number * 360_000 + dice(26)),
                "creator": _user(dice(24) % plan.users),
            }
            yield "documents.documentversion", dice(3), values


def _accesses(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(plan.documents * ACCESSES_PER_DOCUMENT):
        values = {
            "pk": number + 41,
            "uuid": _uuid(dice),
            "document": _document(dice(24) % plan.documents),
            "user": _user(dice(24) % plan.users),
            "time": _stamp(number * 45_000 + dice(15)),
            "ip": f"172.18.{dice(8)}.{dice(8)}",
        }
        yield "documents.documentaccesslog", dice(2), values


def _states(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(len(STATES)):
        yield "workflows.documentstate", number, {}


def _workflows(plan: Plan, dice: Dice) -> Iterator[Row]:
    for number in range(_workflow_count(plan)):
        document, kind = _workflow_of(plan, number)
        created = document * 360_000 + dice(26)
        values = {
            "pk": number + 1,
            "uuid": _uuid(dice),
            "document": _document(document),
            "kind": WORKFLOWS[kind],
            "state": STATES[dice(3)],
            "initiator": _user(dice(24) % plan.users),
            "assignee": "null" if dice(1) else _user(dice(24) % plan.users),
            "created": _stamp(created),
            "updated": _stamp(created + dice(28)),
            "rejected": _user(dice(24) % plan.users),
        }
        yield "workflows.documentworkflow", dice(3), values


def _transitions(plan: Plan, dice: Dice) -> Iterator[Row]:
    pk = 0
    for number in range(_workflow_count(plan)):
        document, _ = _workflow_of(plan, number)
        for step in range(4):
            pk += 1
            values = {
                "pk": pk,
                "uuid": _uuid(dice),
                "workflow": number + 1,
                "from": STATES[step],
                "to": STATES[step + 1],
                "user": _user(dice(24) % plan.users),
                "time": _stamp(document * 360_000 + step * 60_000 + dice(15)),
                "assignee": _username(dice(24) % plan.users),
            }
            yield "workflows.documenttransition", dice(3), values


def _audits(plan: Plan, dice: Dice) -> Iterator[Row]:
    # As in the real file, all that name a row name a document.
    document_type = list(SCHEMA["models"]).index("documents.document") + 1
    for number in range(plan.documents * AUDITS_PER_DOCUMENT):
        document = dice(24) % plan.documents
        user = dice(24) % plan.users
        values = {
            "pk": number + 1,
            "uuid": _uuid(dice),
            "time": _stamp(number * 15_000 + dice(13)),
            "user": _user(user),
            "username": _username(user),
            "type": document_type,
            "object": _document(document),
            "number": _document_number(document),
            "checksum": f"{dice(256):064x}",
            "ip": f"172.18.{dice(8)}.{dice(8)}",
        }
        yield "audit.audittrail", dice(6), values


MAKERS: dict[str, Callable[[Plan, Dice], Iterator[Row]]] = {
    "contenttypes.contenttype": _content_types,
    "django_celery_results.taskresult": _tasks,
    "users.user": _users,
    "users.role": _roles,
    "users.userrole": _user_roles,
    "documents.documenttype": _document_types,
    "documents.document": _documents,
    "documents.documentversion": _versions,
    "documents.documentaccesslog": _accesses,
    "workflows.documentstate": _states,
    "workflows.documentworkflow": _workflows,
    "workflows.documenttransition": _transitions,
    "audit.audittrail": _audits,
}


def _user(number: int) -> int:
    return number + 1 + number // 7


def _document(number: int) -> int:
    return number + 5 + number // 11


def _name(number: int) -> tuple[str, str]:
    return FIRST_NAMES[number % len(FIRST_NAMES)], LAST_NAMES[number // 3 % len(LAST_NAMES)]


def _username(number: int) -> str:
    first, last = _name(number)
    return f"{first}.{last}.{number:05d}"


def _document_number(number: int) -> str:
    return f"{TYPES[number % len(TYPES)]}-{2019 + number % 7}-{number:07d}-v01.00"


def _superseded(plan: Plan, number: int) -> str | int:
    if number % 5 == 4:
        return _document(number - 3)
    if number % 20 == 10 and number + 1 < plan.documents:
        return _document(number + 1)
    return "null"


def _workflow_count(plan: Plan) -> int:
    return plan.documents + plan.documents // 4


def _workflow_of(plan: Plan, number: int) -> tuple[int, int]:
    """The document and the kind of a workflow: one for each, a second for every fourth."""
    second = number - plan.documents
    return (number, 0) if second < 0 else (second * 4, 1)


def _uuid(dice: Dice) -> str:
    return str(UUID(int=dice(128), version=4))


def _stamp(milliseconds: int) -> str:
    """A time as `DjangoJSONEncoder` spells it, counted from the system's first day."""
    seconds, fraction = divmod(milliseconds, 1000)
    day, second = divmod(seconds, 86_400)
    clock = f"{_day(day)}T{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
    return f"{clock}.{fraction:03d}Z" if fraction else f"{clock}Z"


@functools.lru_cache(maxsize=4096)
def _day(number: int) -> str:
    return date.fromordinal(date(2019, 1, 1).toordinal() + number).isoformat()
