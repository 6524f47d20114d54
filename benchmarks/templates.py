"""What the records of `benchmarks.edms` say: per model, templates with slots.

`<name>` inside a string stands for text, the whole string `<name:raw>` for any JSON value.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any, NamedTuple

from benchmarks.edms import MAX_REVIEWERS, ROLES, SCHEMA, STATES, TYPES

SENTENCES = (
    "The operator checks the seal before the chamber is opened.",
    'Every deviation is entered under "Remarks" and signed on the same day.',
    "Die Prüfung erfolgt gemäß Arbeitsanweisung, Abschnitt 4.2.",
    "Storage temperature: 2 to 8 °C; excursions above 25 °C are reported at once.",
    "1.\tRinse twice.\n2.\tDry at 60 °C.\n3.\tLabel with date and initials.",
    "Files are kept under \\\\server\\quality\\records until the retention period ends.",
    "L'étalonnage est vérifié par une deuxième personne avant la mise en service.",
    "Responsibilities are listed in annex B; nobody reviews a document they wrote.",
    "校准记录保存五年。",
    "See also {prefix}-{year}-{sequence:04d} for how numbers are given.",
    "Batches that fail the 100% check are quarantined; the reason is recorded 📋.",
    "Training is complete when the test has been passed with at least 80 points of 100.",
)
TEXTS = 8
"""How many different texts a model has; more would only slow the generator down."""

MIME_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:147.0) Gecko/20100101 Firefox/147.0"
FIRST_DAY = "2019-01-01T02:31:25.258Z"


class Template(NamedTuple):
    pk: Any
    fields: dict[str, Any]


def templates() -> dict[str, list[Template]]:
    """The templates of every model, in the order in which `edms.rows` numbers them."""
    return {
        "contenttypes.contenttype": [
            Template(number, dict(zip(("app_label", "model"), label.split("."), strict=True)))
            for number, label in enumerate(SCHEMA["models"], start=1)
        ],
        "django_celery_results.taskresult": _tasks(),
        "users.user": [_user()],
        "users.role": [_role(number, name) for number, name in enumerate(ROLES, start=1)],
        "users.userrole": [_user_role()],
        "documents.documenttype": [
            _document_type(number, code) for number, code in enumerate(TYPES, start=1)
        ],
        "documents.document": [
            _document(text, reviewers)
            for text in _texts("documents", 12)
            for reviewers in range(MAX_REVIEWERS + 1)
        ],
        "documents.documentversion": [_version(text) for text in _texts("versions", 2)],
        "documents.documentaccesslog": [_access(kind) for kind in ("VIEW", "EDIT", "DOWNLOAD")],
        "workflows.documentstate": [_state(code) for code in STATES],
        "workflows.documentworkflow": [_workflow(text) for text in _texts("workflows", 1)],
        "workflows.documenttransition": [_transition(text) for text in _texts("transitions", 1)],
        "audit.audittrail": _audits(),
    }


def _texts(subject: str, sentences: int) -> list[str]:
    bits = Random(subject).getrandbits
    return [
        " ".join(SENTENCES[bits(24) % len(SENTENCES)] for _ in range(sentences))
        for _ in range(TEXTS)
    ]


def _embedded(value: dict[str, Any]) -> str:
    """JSON as the text of a field, as task queues store it."""
    return re.sub(r'"(<\w+):raw>"', r"\1>", json.dumps(value))


def _tasks() -> list[Template]:
    health = {
        "overall_status": "HEALTHY",
        "timestamp": "<done>",
        "checks": {
            "database": {"healthy": True, "documents": "<count:raw>", "response_time_ms": 10},
            "workflows": {"healthy": True, "active": "<count:raw>", "completed": 0},
            "storage": {"healthy": True, "path": "C:\\edms\\store", "accessible": True},
            "performance": {"healthy": True, "cpu_usage": 25.0, "memory_usage": 60.5},
            "email": {
                "healthy": True,
                "backend": "django.core.mail.backends.smtp.EmailBackend",
                "host": "smtp.example.com:587",
                "sent_24h": "<count:raw>",
                "failure_rate": 0.0,
                "reply": 'last line: "250 2.0.0 Ok: queued"',
            },
        },
        "warnings": [],
        "errors": [],
    }
    effective = {
        "processed_count": "<count:raw>",
        "success_count": "<count:raw>",
        "error_count": 0,
        "processed_documents": [],
        "errors": [],
        "timestamp": "<started>",
    }
    integrity = {"status": "PASSED", "entries_checked": "<count:raw>", "note": "geprüft ✓"}
    return [
        _task("apps.scheduler.tasks.perform_system_health_check", health),
        _task("apps.scheduler.tasks.perform_system_health_check", health),
        _task("apps.scheduler.tasks.process_document_effective_dates", effective),
        _task("apps.audit.integrity_tasks.verify_audit_trail_checksums", integrity),
    ]


def _task(name: str, result: dict[str, Any]) -> Template:
    fields = {
        "task_id": "<task>",
        "periodic_task_name": None,
        "task_name": name,
        "task_args": '"()"',
        "task_kwargs": '"{}"',
        "status": "SUCCESS",
        "worker": "celery@<worker>",
        "content_type": "application/json",
        "content_encoding": "utf-8",
        "result": _embedded(result),
        "date_created": "<started>",
        "date_done": "<done>",
        "traceback": None,
        "meta": _embedded({"children": []}),
    }
    return Template("<pk:raw>", fields)


def _user() -> Template:
    fields: dict[str, Any] = {
        "password": "pbkdf2_sha256$600000$<password>",
        "last_login": "<login>",
        "is_superuser": False,
        "username": "<username>",
        "first_name": "<first>",
        "last_name": "<last>",
        "email": "<username>@example.com",
        "is_active": True,
        "date_joined": "<joined>",
        "uuid": "<uuid>",
        "employee_id": None,
        "department": "Qualität",
        "manager": "<manager:raw>",
        "mfa_enabled": False,
        "failed_login_attempts": 0,
        "created_at": "<joined>",
        "created_by": "<creator:raw>",
        "metadata": {},
    }
    return Template("<pk:raw>", fields)


def _role(number: int, name: str) -> Template:
    fields: dict[str, Any] = {
        "uuid": "<uuid>",
        "name": name,
        "description": SENTENCES[number],
        "module": "O1",
        "inherits_from": number - 1 or None,
        "is_active": True,
        "created_at": FIRST_DAY,
        "created_by": 1,
        "metadata": {},
    }
    return Template(number, fields)


def _user_role() -> Template:
    fields: dict[str, Any] = {
        "uuid": "<uuid>",
        "user": "<user:raw>",
        "role": "<role:raw>",
        "assigned_at": "<assigned>",
        "assigned_by": "<assigner:raw>",
        "expires_at": None,
        "is_active": True,
        "assignment_reason": "",
        "metadata": {},
    }
    return Template("<pk:raw>", fields)


def _document_type(number: int, code: str) -> Template:
    fields = {
        "uuid": "<uuid>",
        "name": f"Type {code}",
        "code": code,
        "description": SENTENCES[number],
        "approval_required": True,
        "retention_years": 5,
        "numbering_format": "{prefix}-{year}-{sequence:04d}",
        "is_active": True,
        "created_at": FIRST_DAY,
        "created_by": 1,
        "metadata": {},
    }
    return Template(number, fields)


def _document(text: str, reviewers: int) -> Template:
    fields = {
        "uuid": "<uuid>",
        "document_number": "<number>",
        "title": text[:60],
        "description": text,
        "keywords": "",
        "version_major": 1,
        "version_minor": 0,
        "document_type": "<type:raw>",
        "status": "<state>",
        "priority": "normal",
        "author": "<author:raw>",
        "approver": "<approver:raw>",
        "file_name": "Qualitätspolitik <number>.docx",
        "file_path": "storage/documents/<uuid>.docx",
        "file_size": "<size:raw>",
        "file_checksum": "<checksum>",
        "mime_type": MIME_TYPE,
        "is_encrypted": False,
        "encryption_metadata": {},
        "created_at": "<created>",
        "updated_at": "<updated>",
        "approval_date": None,
        "effective_date": None,
        "review_period_months": 24,
        "obsolescence_reason": "",
        "supersedes": "<supersedes:raw>",
        "is_active": True,
        "is_controlled": True,
        "search_vector": "",
        "metadata": {"author": 1, "supersedes": None, "tags": ["iso", "9001"]},
        "reviewers": [f"<reviewer{place}:raw>" for place in range(reviewers)],
    }
    return Template("<pk:raw>", fields)


def _version(text: str) -> Template:
    fields = {
        "uuid": "<uuid>",
        "document": "<document:raw>",
        "version_major": "<major:raw>",
        "version_minor": 0,
        "version_comment": "",
        "file_name": "",
        "file_size": None,
        "file_checksum": "",
        "created_at": "<created>",
        "created_by": "<creator:raw>",
        "status": "EFFECTIVE",
        "change_summary": text,
        "reason_for_change": "",
        "metadata": {"initial_version": True},
    }
    return Template("<pk:raw>", fields)


def _access(kind: str) -> Template:
    fields = {
        "uuid": "<uuid>",
        "document": "<document:raw>",
        "user": "<user:raw>",
        "access_type": kind,
        "access_timestamp": "<time>",
        "ip_address": "<ip>",
        "user_agent": AGENT,
        "session_id": None,
        "success": True,
        "failure_reason": "",
        "document_version": "01.00",
        "file_downloaded": kind == "DOWNLOAD",
        "access_duration": None,
        "metadata": {"via": "detail_page", "action": kind.lower()},
    }
    return Template("<pk:raw>", fields)


def _state(code: str) -> Template:
    fields = {
        "name": code.replace("_", " ").title(),
        "description": "",
        "is_initial": code == STATES[0],
        "is_final": code == STATES[-1],
    }
    return Template(code, fields)


def _workflow(text: str) -> Template:
    rejection = {
        "type": "review",
        "comment": text,
        "rejected_by": "<rejected:raw>",
        "rejection_date": "<updated>",
    }
    fields = {
        "uuid": "<uuid>",
        "document": "<document:raw>",
        "workflow_type": "<kind>",
        "current_state": "<state>",
        "initiated_by": "<initiator:raw>",
        "current_assignee": "<assignee:raw>",
        "created_at": "<created>",
        "updated_at": "<updated>",
        "due_date": None,
        "workflow_data": {"review_type": "standard", "last_rejection": rejection},
        "up_version_reason": "",
        "termination_reason": "",
        "is_terminated": False,
        "last_approved_state": "",
    }
    return Template("<pk:raw>", fields)


def _transition(text: str) -> Template:
    fields = {
        "uuid": "<uuid>",
        "workflow": "<workflow:raw>",
        "from_state": "<from>",
        "to_state": "<to>",
        "transitioned_by": "<user:raw>",
        "transitioned_at": "<time>",
        "comment": text,
        "transition_data": {"assignee": "<assignee>"},
    }
    return Template("<pk:raw>", fields)


def _audits() -> list[Template]:
    view = _audit(
        "VIEW",
        description="Document view: <number>",
        object_representation="<number> - Qualitätspolitik (v01.00)",
        metadata={
            "success": True,
            "access_type": "VIEW",
            "failure_reason": "",
            "file_downloaded": False,
            "document_version": "01.00",
        },
    )
    health = _audit(
        "SYSTEM_HEALTH_CHECK",
        user=None,
        content_type=None,
        object_id=None,
        description="System health check: HEALTHY",
        field_changes={"check_count": 6, "failed_checks": [], "overall_status": "HEALTHY"},
    )
    update = [
        _audit(
            "DOCUMENT_UPDATE",
            description="Updated document <number>",
            metadata={"changed_fields": _changes(text), "document_number": "<number>"},
        )
        for text in _texts("updates", 3)
    ]
    edit = _audit(
        "EDIT",
        description="<username> edited <number>",
        old_values={"status": "DRAFT", "user": "<user:raw>", "content_type": 3},
        new_values={"status": "PENDING_REVIEW", "user": "<user:raw>", "content_type": 3},
        # Looks like a record, and is none: only the schema tells.
        metadata={"model": "documents.document", "pk": "<object:raw>", "fields": {"author": 1}},
    )
    # In the proportions of the real file: half of them views, a third health checks.
    return [*[view] * 8, *[health] * 5, *update[:2], edit]


def _audit(action: str, **fields: Any) -> Template:
    common: dict[str, Any] = {
        "uuid": "<uuid>",
        "timestamp": "<time>",
        "action": action,
        "severity": "INFO",
        "user": "<user:raw>",
        "user_display_name": "",
        "session_id": None,
        "ip_address": "<ip>",
        "user_agent": "",
        "content_type": "<type:raw>",
        "object_id": "<object>",
        "object_representation": "",
        "field_changes": {},
        "old_values": {},
        "new_values": {},
        "description": "",
        "module": "O1",
        "request_path": "",
        "request_method": "",
        "checksum": "<checksum>",
        "is_tampered": False,
        "verification_status": "VERIFIED",
        "metadata": {},
    }
    return Template("<pk:raw>", {**common, **fields})


def _changes(text: str) -> dict[str, Any]:
    new = {
        "id": "<object:raw>",
        "title": "Qualitätspolitik",
        "author": "<user:raw>",
        "status": "EFFECTIVE",
        "approver": "<user:raw>",
        "description": text,
        "keywords": "",
        "metadata": {},
        "priority": "normal",
        "file_name": "Qualitätspolitik.docx",
        "file_size": 124263,
        "is_active": True,
        "mime_type": MIME_TYPE,
        "file_checksum": "<checksum>",
        "approval_date": "<time>",
    }
    return {name: {"new": value, "old": None} for name, value in new.items()}
