"""What is in the demonstration's two databases before the backup is restored.

Deterministic: the same rows with the same ids on every run.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.management import create_contenttypes
from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from fastnk.demo.audit.models import AuditTrail, LoginAudit
from fastnk.demo.documents.models import (
    Document,
    DocumentComment,
    DocumentDependency,
    DocumentType,
)
from fastnk.demo.users.models import Role, User, UserRole
from fastnk.demo.workflows.models import DocumentState, DocumentTransition, DocumentWorkflow

SEED = 2025
USERS = 40
DOCUMENTS = 300
COMMENTS = 240
AUDIT_ROWS = 2_000
LOGINS = 400
TRIALS = 400
GAPS = 0.1
"""How often an id is missing in the old system, where a row was deleted."""

START = datetime(2025, 1, 6, 8, tzinfo=UTC)
STATES = {
    "DRAFT": "Draft",
    "UNDER_REVIEW": "Under review",
    "REVIEWED": "Reviewed",
    "APPROVED": "Approved",
    "EFFECTIVE": "Effective",
    "SUPERSEDED": "Superseded",
}
FINAL_STATES = ("SUPERSEDED",)
APPROVAL_STEPS = ("DRAFT", "UNDER_REVIEW", "REVIEWED", "APPROVED", "EFFECTIVE")
ROLES = {
    "Author": "Writes documents",
    "Reviewer": "Comments on drafts",
    "Approver": "Signs documents",
    "Administrator": "Keeps the system running",
    "Qualitätssicherung": "Prüft, was in Kraft tritt",
}
TYPES = {
    "SOP": "Standard operating procedure",
    "WI": "Work instruction",
    "FORM": "Form",
    "POL": "Policy",
    "VAL": "Validation report",
}
SUBJECTS = (
    "Cleaning of vessels",
    "Calibration of balances",
    "Training of new staff",
    "Change control",
    "Reinigung der Räume",
    "Complaints and recalls",
    "Sampling of raw materials",
    "Étiquetage et stockage",
    'Use of the word "sterile"',
    "Supplier audits",
)
FAMILY_NAMES = ("Moreau", "Schäfer", "Okafor", "Lindqvist", "Tanaka", "O'Neill", "Novák", "Silva")
GIVEN_NAMES = ("Ada", "Björn", "Chloé", "Deniz", "Emeka", "Fiona", "Goro", "Hana")
COMMENT_TEXTS = (
    "Section 4 contradicts the policy.",
    "Bitte die Größe der Probe nennen.",
    "Fine as it is.\nThank you!",
    'Say "shall", not "should".',
)


def fill_old_system(database: str) -> None:
    """Fill the empty tables of `database` with a system that has been in use for a year."""
    with transaction.atomic(using=database):
        _OldSystem(database).fill()


def initialise_new_system(database: str) -> None:
    """Give `database` what a fresh system starts with, under other ids than in the old one.

    The rows also stand in the old system: some are the same, some have changed there since.
    """
    with transaction.atomic(using=database):
        _renumber_content_types(database)
        _try_out_and_delete(database)
        _make_system_rows(database)


class _OldSystem:
    def __init__(self, database: str) -> None:
        self.database = database
        self.random = random.Random(SEED)

    def fill(self) -> None:
        states = [
            DocumentState(code=code, name=name, is_final=code in FINAL_STATES)
            for code, name in STATES.items()
        ]
        DocumentState.objects.using(self.database).bulk_create(states)
        roles = self._insert(Role(name=name, description=text) for name, text in ROLES.items())
        types = self._insert(DocumentType(code=code, name=name) for code, name in TYPES.items())
        users = self._insert(self._users())
        self._insert(self._user_roles(users, roles))
        documents = self._documents(users, types)
        self._insert(self._dependencies(documents))
        self._insert(self._comments(documents, users))
        workflows = self._insert(self._workflows(documents))
        self._invite_reviewers(workflows, users)
        transitions = self._insert(self._transitions(workflows, users))
        self._insert(self._audit_trail(documents, transitions, users))
        self._insert(self._logins(users))

    def _insert(self, rows: Iterable[Any]) -> list[Any]:
        numbered = self._number(rows)
        type(numbered[0]).objects.using(self.database).bulk_create(numbered)
        return numbered

    def _number(self, rows: Iterable[Any]) -> list[Any]:
        numbered = list(rows)
        pk = 0
        for row in numbered:
            pk += 2 if self.random.random() < GAPS else 1
            row.pk = pk
        return numbered

    def _moments(self, count: int) -> Iterator[datetime]:
        """Ascending times in whole milliseconds, the most that `dumpdata` keeps."""
        year_in_ms = 365 * 24 * 3600 * 1000
        for ms in sorted(self.random.sample(range(year_in_ms), count)):
            yield START + timedelta(milliseconds=ms)

    def _users(self) -> Iterator[User]:
        yield User(
            username="admin",
            full_name="System Administrator",
            email="it@edms.example",
            password=self._password(),
            is_superuser=True,
            joined_at=START,
        )
        for number, joined_at in enumerate(self._moments(USERS - 1), 1):
            given, family = self.random.choice(GIVEN_NAMES), self.random.choice(FAMILY_NAMES)
            yield User(
                username=f"author{number:02}",
                full_name=f"{given} {family}",
                email=f"author{number:02}@edms.example",
                password=self._password(),
                is_active=self.random.random() < 0.9,
                joined_at=joined_at,
            )

    def _password(self) -> str:
        return f"!{self.random.getrandbits(160):040x}"  # as Django marks one that fits nothing

    def _user_roles(self, users: list[User], roles: list[Role]) -> Iterator[UserRole]:
        for user in users:
            for role in self.random.sample(roles, self.random.randint(1, 3)):
                yield UserRole(
                    user=user,
                    role=role,
                    assigned_by=None if user is users[0] else users[0],
                    assigned_at=user.joined_at,
                )

    def _documents(self, users: list[User], types: list[DocumentType]) -> list[Document]:
        documents = [
            self._document(number, created_at, users, types)
            for number, created_at in enumerate(self._moments(DOCUMENTS), 1)
        ]
        # Ids in another order than numbers: a document may then stand before the one it supersedes
        # or after it, and a backup refers forward as well as back.
        shuffled = self._number(self.random.sample(documents, len(documents)))
        self._chain(documents)
        Document.objects.using(self.database).bulk_create(shuffled)
        return documents

    def _document(
        self, number: int, created_at: datetime, users: list[User], types: list[DocumentType]
    ) -> Document:
        author, approver = self.random.sample(users, 2)
        approved = self.random.random() < 0.7
        waiting = timedelta(days=self.random.randint(10, 60))
        return Document(
            document_number=f"DOC-2025-{number:04}",
            title=f"{self.random.choice(SUBJECTS)}, part {self.random.randint(1, 9)}",
            document_type=self.random.choice(types),
            author=author,
            approver=approver if approved else None,
            created_at=created_at,
            effective_date=(created_at + waiting).date() if approved else None,
            details={
                "pages": self.random.randint(1, 80),
                "sites": ["Lyon", "Zürich"][: number % 3],
            },
        )

    def _chain(self, documents: list[Document]) -> None:
        """Let documents of one title supersede each other, oldest first."""
        newest: dict[str, Document] = {}
        for document in documents:
            document.supersedes = newest.get(document.title)
            newest[document.title] = document

    def _dependencies(self, documents: list[Document]) -> Iterator[DocumentDependency]:
        for document in self.random.sample(documents, len(documents) // 2):
            for depends_on in self.random.sample(documents, 2):
                if depends_on is not document:
                    kind = self.random.choice(("REFERENCES", "IMPLEMENTS"))
                    yield DocumentDependency(
                        document=document, depends_on=depends_on, dependency_type=kind
                    )

    def _comments(self, documents: list[Document], users: list[User]) -> Iterator[DocumentComment]:
        for created_at in self._moments(COMMENTS):
            yield DocumentComment(
                document=self.random.choice(documents),
                author=self.random.choice(users),
                text=self.random.choice(COMMENT_TEXTS),
                created_at=created_at,
            )

    def _workflows(self, documents: list[Document]) -> Iterator[DocumentWorkflow]:
        superseded = {document.supersedes_id for document in documents}
        for document in self.random.sample(documents, len(documents)):
            approved = document.approver is not None
            state = "EFFECTIVE" if approved else self.random.choice(APPROVAL_STEPS[:-1])
            yield DocumentWorkflow(
                document=document,
                workflow_type="APPROVAL",
                current_state_id="SUPERSEDED" if document.pk in superseded else state,
                initiated_by=document.author,
            )

    def _invite_reviewers(self, workflows: list[DocumentWorkflow], users: list[User]) -> None:
        invitation = DocumentWorkflow.reviewers.through
        invitations = [
            invitation(documentworkflow=workflow, user=user)
            for workflow in workflows
            for user in self.random.sample(users, self.random.randint(0, 3))
        ]
        invitation.objects.using(self.database).bulk_create(invitations)

    def _transitions(
        self, workflows: list[DocumentWorkflow], users: list[User]
    ) -> Iterator[DocumentTransition]:
        for workflow in workflows:
            before, moment = None, workflow.document.created_at
            for number, after in enumerate(_steps_to(workflow.current_state_id), 1):
                moment += timedelta(minutes=self.random.randint(5, 5_000))
                yield DocumentTransition(
                    workflow=workflow,
                    number=number,
                    from_state_id=before,
                    to_state_id=after,
                    performed_by=self.random.choice(users),
                    performed_at=moment,
                )
                before = after

    def _audit_trail(
        self, documents: list[Document], transitions: list[DocumentTransition], users: list[User]
    ) -> Iterator[AuditTrail]:
        of_document, of_transition = self._content_types(Document, DocumentTransition)
        for timestamp in self._moments(AUDIT_ROWS):
            if self.random.random() < 0.4:
                document, content_type = self.random.choice(documents), of_document
                action, changes = "UPDATE", {"title": [document.title[:7], document.title]}
            else:
                moved, content_type = self.random.choice(transitions), of_transition
                document = moved.workflow.document
                action, changes = "MOVE", {"state": [moved.from_state_id, moved.to_state_id]}
            yield AuditTrail(
                uuid=uuid.UUID(int=self.random.getrandbits(128), version=4),
                timestamp=timestamp,
                action=action,
                user=self.random.choice([*users, None]),
                content_type=content_type,
                object_number=document.document_number,
                changes=changes,
            )

    def _content_types(self, *models: type[Any]) -> list[ContentType]:
        manager = ContentType.objects.db_manager(self.database)
        return [manager.get_for_model(model) for model in models]

    def _logins(self, users: list[User]) -> Iterator[LoginAudit]:
        for timestamp in self._moments(LOGINS):
            user = self.random.choice([*users, None])
            yield LoginAudit(
                user=user,
                username=user.username if user else "root",
                address=f"192.0.2.{self.random.randint(1, 254)}",
                timestamp=timestamp,
                succeeded=user is not None,
            )


def _steps_to(state: str) -> tuple[str, ...]:
    if state == "SUPERSEDED":
        return (*APPROVAL_STEPS, state)
    return APPROVAL_STEPS[: APPROVAL_STEPS.index(state) + 1]


def _renumber_content_types(database: str) -> None:
    ContentType.objects.using(database).all().delete()
    ContentType.objects.clear_cache()
    for config in reversed(list(apps.get_app_configs())):
        create_contenttypes(config, verbosity=0, using=database)


def _try_out_and_delete(database: str) -> None:
    """Use up ids, as trying out a new system does: SQLite does not give them out again."""
    state = DocumentState(code="TRIAL", name="Trial")
    state.save(using=database)
    for number in range(TRIALS):
        user = User(username=f"trial{number}", full_name="Trial", joined_at=START)
        user.save(using=database)
        role = Role(name=f"Trial {number}")
        role.save(using=database)
        UserRole(user=user, role=role, assigned_at=START).save(using=database)
        kind = DocumentType(code=f"TRIAL-{number}", name="Trial")
        kind.save(using=database)
        document = Document(
            document_number=f"TRIAL-{number}",
            title="Trial",
            document_type=kind,
            author=user,
            created_at=START,
        )
        document.save(using=database)
        workflow = DocumentWorkflow(document=document, current_state=state, initiated_by=user)
        workflow.save(using=database)
    for model in (Document, DocumentState, DocumentType, Role, User):
        model.objects.using(database).all().delete()


def _make_system_rows(database: str) -> None:
    for code, name in reversed(STATES.items()):
        state = DocumentState(code=code, name=name, is_final=code in FINAL_STATES)
        state.save(using=database)
    for name, description in reversed(ROLES.items()):
        Role(name=name, description=description).save(using=database)
    for code, name in reversed(TYPES.items()):
        as_delivered = "Standard procedure" if code == "SOP" else name
        DocumentType(code=code, name=as_delivered).save(using=database)
    admin = User(
        username="admin",
        full_name="admin",
        email="root@localhost",
        is_superuser=True,
        joined_at=START + timedelta(days=400),
    )
    admin.save(using=database)
