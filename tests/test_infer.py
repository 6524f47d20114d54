"""Schemas inferred from backups whose answer is known."""

from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest

from fastnk.convert import LegacyBackupConverter
from fastnk.errors import BackupSyntaxError, SchemaError, UsageError
from fastnk.infer import infer
from fastnk.infer.fields import (
    MAX_KEY_PARTS,
    MAX_VALUES,
    Hashes,
    Ids,
    contained,
    normal_time,
    survey,
)
from fastnk.infer.inheritance import guess_parents
from fastnk.infer.naming import Names, is_plain, singular
from fastnk.infer.proposal import COLUMNS, KeyProposal, Proposal, RelationProposal
from fastnk.schema import GenericRelation, Model, Relation, Schema

Records = list[dict[str, Any]]


def legacy(label: str, pk: Any, /, **fields: Any) -> dict[str, Any]:
    return {"model": label, "pk": pk, "fields": fields}


def natural(label: str, /, **fields: Any) -> dict[str, Any]:
    return {"model": label, "fields": fields}


def keyed(label: str, key: list[Any], /, **fields: Any) -> dict[str, Any]:
    return {"model": label, "natural_key": key, "fields": fields}


def dump(records: Records) -> bytes:
    return json.dumps(records).encode()


def users(count: int, first: int = 1, step: int = 1) -> Records:
    return [
        legacy("users.user", first + number * step, username=f"user{number}", password="x")
        for number in range(count)
    ]


def rows(label: str, count: int, first: int = 1, **fields: Any) -> Records:
    return [legacy(label, first + n, **fields) for n in range(count)]


def fields_of(label: str, field: str, ids: list[Any]) -> Records:
    return [legacy(label, n, **{field: one}) for n, one in enumerate(ids, 1)]


def relation(proposal: Proposal, label: str, field: str) -> RelationProposal:
    found = [one for one in proposal.relations if (one.model, one.field) == (label, field)]
    assert len(found) == 1, f"{len(found)} proposals for {label}.{field}"
    return found[0]


def proposed(proposal: Proposal, label: str) -> set[str]:
    return {one.field for one in proposal.relations if one.model == label}


def key(proposal: Proposal, label: str) -> KeyProposal:
    return next(one for one in proposal.keys if one.model == label)


# ---- relations ---------------------------------------------------------------------------------


def test_a_field_named_after_a_model_that_has_all_its_ids() -> None:
    records = users(20)
    records += [legacy("docs.document", n, user=n, title=f"Paper {n}") for n in range(1, 15)]
    found = relation(infer(dump(records)), "docs.document", "user")
    assert (found.to, found.many, found.to_field) == ("users.user", False, None)
    assert found.confidence >= 0.9
    assert found.values == 14
    assert "14 different values, all of the 20 pks of users.user" in found.evidence


def test_ids_that_the_model_does_not_have_speak_against_it() -> None:
    records = users(20) + [legacy("docs.document", n, user=n * 3) for n in range(1, 13)]
    found = relation(infer(dump(records)), "docs.document", "user")
    assert found.to == "users.user"
    assert found.confidence < 0.5
    assert any("50.0%" in sentence for sentence in found.evidence)


def test_two_models_with_the_same_pks_and_one_of_them_named() -> None:
    records = users(9)
    records += [legacy("docs.folder", n, path=f"/{n}") for n in range(1, 10)]
    records += [legacy("docs.paper", n, folder=1 + n % 9) for n in range(1, 30)]
    found = relation(infer(dump(records)), "docs.paper", "folder")
    assert found.to == "docs.folder"
    assert found.confidence >= 0.9
    assert "users.user" in {other.to for other in found.others}


def test_two_models_with_the_same_pks_and_none_of_them_named() -> None:
    records = users(9)
    records += [legacy("docs.folder", n, path=f"/{n}") for n in range(1, 10)]
    records += [legacy("docs.paper", n, holder=1 + n % 9) for n in range(1, 30)]
    found = relation(infer(dump(records)), "docs.paper", "holder")
    assert {found.to, *(other.to for other in found.others)} >= {"users.user", "docs.folder"}
    assert found.confidence < 0.2


def test_two_models_of_one_name_share_the_certainty_unless_one_is_of_the_same_app() -> None:
    records = [legacy(f"{app}.label", n, text="x") for app in ("one", "two") for n in range(1, 9)]
    records += [legacy("one.thing", n, label=1 + n % 8) for n in range(1, 20)]
    records += [legacy("other.thing", n, label=1 + n % 8) for n in range(1, 20)]
    proposal = infer(dump(records))
    near = relation(proposal, "one.thing", "label")
    assert (near.to, near.confidence >= 0.9) == ("one.label", True)
    far = relation(proposal, "other.thing", "label")
    assert {far.to, far.others[0].to} == {"one.label", "two.label"}
    assert far.confidence == far.others[0].confidence < 0.6


def test_a_plain_number_contained_by_accident_is_not_believed() -> None:
    records = users(40)
    records += [
        legacy(
            "docs.version", n, version_major=1 + n % 4, version_minor=n % 3 + 1, weightless=n % 7
        )
        for n in range(1, 40)
    ]
    records = [r for r in records if r["fields"].get("weightless") != 0]
    proposal = infer(dump(records))
    assert {"version_major", "version_minor"}.isdisjoint(proposed(proposal, "docs.version"))
    assert relation(proposal, "docs.version", "weightless").confidence < 0.2
    assert proposal.schema().models["docs.version"].relations == {}


def test_a_field_without_a_name_is_believed_when_its_ids_are_scattered() -> None:
    records = users(60, first=1_000, step=37)
    records += [legacy("docs.paper", n, held=1_000 + 37 * (n % 50)) for n in range(1, 300)]
    found = relation(infer(dump(records)), "docs.paper", "held")
    assert (found.to, found.named) == ("users.user", False)
    assert 0.7 < found.confidence < 0.9


def test_a_counter_is_not_believed_to_be_a_relation() -> None:
    records = [legacy("docs.paper", n, running=n) for n in range(1, 200)]
    found = relation(infer(dump(records)), "docs.paper", "running")
    assert found.confidence < 0.5
    assert any("counter" in sentence for sentence in found.evidence)


@pytest.mark.parametrize("field", ["created_by", "author", "owner", "last_editor", "approved_by"])
def test_fields_that_speak_of_people(field: str) -> None:
    records = users(5)
    records += [legacy("docs.paper", n, **{field: 1 + n % 3}) for n in range(1, 10)]
    found = relation(infer(dump(records)), "docs.paper", field)
    assert (found.to, found.confidence >= 0.9) == ("users.user", True)


def test_who_superseded_it_or_what_is_told_as_two_candidates() -> None:
    records = users(5)
    records += [legacy("docs.paper", n, superseded_by=1 + n % 3) for n in range(1, 10)]
    found = relation(infer(dump(records)), "docs.paper", "superseded_by")
    assert {found.to, found.others[0].to} == {"docs.paper", "users.user"}
    assert found.confidence < 0.9


def test_a_relation_to_the_same_model() -> None:
    records = [
        legacy("docs.folder", n, path=f"/{n}", parent=None if n < 3 else n // 2)
        for n in range(1, 30)
    ]
    found = relation(infer(dump(records)), "docs.folder", "parent")
    assert (found.to, found.confidence >= 0.7) == ("docs.folder", True)


@pytest.mark.parametrize(
    ("field", "is_sure"), [("parent_category", True), ("parent_shop", False), ("next", False)]
)
def test_a_parent_of_its_kind_is_of_the_same_model(field: str, is_sure: bool) -> None:
    ids = [None, None, 1, 2, 2, 1, 5]
    found = relation(
        infer(dump(fields_of("shop.goods_category", field, ids))), "shop.goods_category", field
    )
    assert (found.to, found.confidence >= 0.9) == ("shop.goods_category", is_sure)


def test_a_parent_that_every_record_has_is_hardly_of_the_same_model() -> None:
    records = fields_of("docs.text", "parent", [2, 3, 1, 3, 4, 2, 9, 5, 7])
    found = relation(infer(dump(records)), "docs.text", "parent")
    assert (found.to, 0.5 < found.confidence < 0.9) == ("docs.text", True)
    assert "every record has one, so that some would refer to each other" in found.evidence


def test_pks_that_are_texts() -> None:
    records = [legacy("flow.state", name, final=False) for name in ("DRAFT", "READY", "DONE")]
    records += [
        legacy("docs.paper", n, state=("DRAFT", "DONE")[n % 2], status=("DRAFT", "DONE")[n % 2])
        for n in range(1, 10)
    ]
    proposal = infer(dump(records))
    found = relation(proposal, "docs.paper", "state")
    assert (found.to, found.to_field, found.confidence >= 0.9) == ("flow.state", None, True)
    # The same words in a column of another name may be its own.
    assert "status" not in proposed(proposal, "docs.paper")
    assert key(proposal, "flow.state").natural_key == ["pk"]


def test_a_relation_by_another_field_than_the_pk() -> None:
    records = [legacy("docs.kind", n, code=code) for n, code in enumerate(("SOP", "WI", "POL"), 1)]
    records += [legacy("docs.paper", n, kind=("SOP", "POL")[n % 2]) for n in range(1, 10)]
    found = relation(infer(dump(records)), "docs.paper", "kind")
    assert (found.to, found.to_field) == ("docs.kind", "code")
    assert 0.7 < found.confidence < 0.9


def test_lists_of_ids_are_many() -> None:
    records = users(12)
    records += [legacy("docs.paper", n, users=[n, n + 1] if n % 2 else []) for n in range(1, 9)]
    found = relation(infer(dump(records)), "docs.paper", "users")
    assert (found.to, found.many, found.confidence >= 0.9) == ("users.user", True, True)
    schema = infer(dump(records)).schema()
    assert schema.models["docs.paper"].relations == {"users": Relation(to="users.user", many=True)}


def test_nulls_say_nothing_and_a_field_of_nulls_only_has_its_name() -> None:
    records = users(5)
    records += [legacy("docs.paper", n, user=None, owner=2 if n == 4 else None) for n in range(9)]
    proposal = infer(dump(records))
    assert relation(proposal, "docs.paper", "owner").confidence >= 0.9
    nothing = relation(proposal, "docs.paper", "user")
    assert nothing.values == 0
    assert nothing.confidence < 0.6


@pytest.mark.parametrize("value", [True, 1.5, {"user": 1}, "free text\nin lines", [["a", 1]]])
def test_values_that_are_no_ids_are_no_relation(value: Any) -> None:
    records = users(5) + [legacy("docs.paper", n, user=value) for n in range(1, 5)]
    assert proposed(infer(dump(records)), "docs.paper") == set()


def pages(count: int) -> Records:
    return [legacy("site.page", n, slug=f"page-{n}", title="Page") for n in range(1, count)]


def test_what_the_log_of_the_admin_says_was_done_is_no_row_of_a_model_of_flags() -> None:
    records = [legacy("waffle.flag", n, name=f"f{n}") for n in range(1, 6)]
    records += [legacy("admin.logentry", n, action_flag=n % 3 + 1) for n in range(1, 30)]
    found = relation(infer(dump(records)), "admin.logentry", "action_flag")
    assert found.confidence < 0.9


def test_children_in_multi_table_inheritance_are_told_by_their_pks() -> None:
    records = pages(20)
    kinds = {"blog.blogpage": [7, 9, 15], "blog.indexpage": [2, 8], "shop.page": [3, 11]}
    records += [legacy(label, pk, body="x") for label, pks in kinds.items() for pk in pks]
    records += [legacy("blog.comment", n, page=[2, 7, 15][n % 3]) for n in range(1, 10)]
    proposal = infer(dump(records))
    found = {one.model: one.to for one in proposal.relations if one.parent_link}
    assert found == dict.fromkeys(kinds, "site.page")
    schema = proposal.schema()
    link = Relation(to="site.page", parent_link=True)
    assert (schema.models["blog.blogpage"].pk, schema.models["blog.blogpage"].relations) == (
        "page_ptr",
        {"page_ptr": link},
    )
    converted = json.loads(LegacyBackupConverter(schema).convert_bytes(dump(records)))
    fields = [one["fields"] for one in converted if one["model"] == "blog.blogpage"]
    assert [one["page_ptr"] for one in fields] == [["page-7"], ["page-9"], ["page-15"]]


def test_a_grandchild_continues_the_rows_of_the_child() -> None:
    records = pages(20) + [legacy("shop.indexpage", pk, text="x") for pk in (4, 6)]
    kinds = {"blog.blogpage": [7, 9, 12, 15], "blog.starredpage": [9, 12, 15], "blog.toppage": [15]}
    records += [legacy(label, pk) for label, pks in kinds.items() for pk in pks]
    found = {one.model: one for one in infer(dump(records)).relations if one.parent_link}
    assert {label: one.to for label, one in found.items()} == {
        "shop.indexpage": "site.page",
        "blog.blogpage": "site.page",
        "blog.starredpage": "blog.blogpage",
        "blog.toppage": "blog.starredpage",
    }
    assert found["blog.starredpage"].field == "blogpage_ptr"


def test_a_parent_keeps_its_pks_where_a_child_is_not_sure() -> None:
    records = pages(20) + [legacy("blog.blogpage", n, body="x") for n in range(1, 6)]
    proposal = infer(dump(records))
    assert proposal.schema().models["site.page"] == Model()
    assert any("blog.blogpage may continue its rows" in line for line in proposal.left_out())
    assert proposal.schema(0.5).models["site.page"].natural_key == ["slug"]


@pytest.mark.parametrize(
    ("label", "pks", "fields"),
    [
        ("blog.blogpage", [1, 2, 25], {"body": "x"}),
        ("blog.blogpage", [1, 2, 3], {"title": "a field of its parent"}),
        ("blog.blogpage", [1, 2, 3], {"page": 5}),
        ("blog.entry", [1, 2, 3], {"body": "x"}),
    ],
)
def test_what_is_no_child(label: str, pks: list[int], fields: dict[str, Any]) -> None:
    proposal = infer(dump(pages(20) + [legacy(label, pk, **fields) for pk in pks]))
    assert not any(one.parent_link for one in proposal.relations)


@pytest.mark.parametrize(
    ("label", "pks", "fields"),
    [
        ("crew.userprofile", [3, 4, 7, 9, 12], {"text": "x"}),
        ("crew.profile", [3, 4, 7, 9, 12, 20, 21], {"text": "x"}),
        ("crew.staffuser", [3, 4, 7, 9, 12], {"text": "x"}),
    ],
)
def test_people_keep_their_pks_where_each_may_have_one_row_of_another_model(
    label: str, pks: list[int], fields: dict[str, Any]
) -> None:
    people = [legacy("auth.user", pk, username=f"u{pk}", password="x") for pk in pks]
    proposal = infer(dump(people + [legacy(label, pk, **fields) for pk in pks]))
    found = relation(proposal, label, "user_ptr")
    assert (found.to, found.parent_link) == ("auth.user", True)
    assert 0.5 < found.confidence < 0.9
    assert proposal.schema().models["auth.user"] == Model()
    assert any(f"{label} may continue its rows" in line for line in proposal.left_out())


@pytest.mark.parametrize(
    ("label", "pks", "field"),
    [
        ("crew.userprofile", [1, 2, 3, 4, 5], "text"),
        ("crew.userprofile", [3, 4, 7, 9, 12], "user"),
        ("crew.userprofile", [3, 4, 7, 9, 12], "whose"),
        ("crew.paper", [3, 4, 7, 9, 12], "text"),
    ],
)
def test_pks_that_a_model_has_by_itself_are_nothing_to_others(
    label: str, pks: list[int], field: str
) -> None:
    people = [legacy("auth.user", pk, username=f"u{pk}", password="x") for pk in pks]
    shared = [legacy(label, pk, **{field: pk}) for pk in pks]
    proposal = infer(dump(people + shared))
    assert proposal.schema().models["auth.user"].natural_key == ["username"]


def test_a_parent_is_found_among_many_models() -> None:
    """Each of which has all the pks of many others, and fields of its own."""
    records = pages(20) + [legacy("blog.blogpage", pk, body="x") for pk in (7, 9, 15)]
    for number in range(100):
        pks = [1, 2, *range(4, 6 + number % 20)]
        records += [legacy(f"a.m{number}x", pk, **{f"f{number}": pk}) for pk in pks]
    (found,) = guess_parents(survey(dump(records)))
    assert (found.model, found.to) == ("blog.blogpage", "site.page")


def test_scattered_pks_tell_a_child_of_any_name() -> None:
    records = [legacy("a.device", str(UUID(int=n * 7919)), serial=f"S{n}") for n in range(1, 30)]
    records += [legacy("a.router", str(UUID(int=n * 7919)), ports=8) for n in range(5, 9)]
    found = relation(infer(dump(records)), "a.router", "device_ptr")
    assert (found.to, found.named, found.parent_link) == ("a.device", False, True)
    assert 0.5 < found.confidence < 0.9


def test_children_without_its_name_tell_a_parent_together() -> None:
    records = rows("cms.plugin", 30, text="x")
    kinds = {"a.slides": 11, "b.teaser": 16, "c.map": 21, "d.form": 26}
    for label, first in kinds.items():
        records += rows(label, 5, first, **{label[2:]: "x"})
    found = [one for one in infer(dump(records)).relations if one.parent_link]
    assert {one.model: one.to for one in found} == dict.fromkeys(kinds, "cms.plugin")
    assert all(0.5 < one.confidence < 0.9 for one in found)
    # Another model that has all these pks may be the parent just as well.
    records += rows("log.line", 40, note="x")
    found = [one for one in infer(dump(records)).relations if one.parent_link]
    assert all(one.confidence < 0.5 for one in found)


def test_pks_from_one_on_may_be_those_of_a_table_of_its_own() -> None:
    records = pages(40)
    for name, first in (("blog", 6), ("news", 16), ("shop", 26)):
        records += [legacy(f"site.{name}page", n, **{name: 1}) for n in range(first, first + 9)]

    def sureness(*pks: int) -> float:
        tags = [legacy("site.tagpage", pk, text="x") for pk in pks]
        return relation(infer(dump(records + tags)), "site.tagpage", "page_ptr").confidence

    assert sureness(1, 2, 3, 4) < 0.9 < sureness(1, 2, 4, 5)


def test_what_links_a_parent_to_something_is_perhaps_no_child() -> None:
    def to_page(field: str) -> float:
        records = pages(30) + [legacy("blog.blogpage", pk, body="x") for pk in (7, 9, 15)]
        records += [legacy("flow.taskpage", pk, **{field: 1}) for pk in (21, 23, 27)]
        found = relation(infer(dump(records)), "flow.taskpage", "page_ptr")
        return found.confidence

    assert to_page("task") < 0.9 < to_page("body")


@pytest.mark.parametrize("label", ["auth.user", "crew.member"])
def test_the_rights_of_users_are_those_of_django(label: str) -> None:
    people = [
        legacy(label, n, username=f"u{n}", password="x", groups=[n, n + 1], user_permissions=[n])
        for n in range(1, 5)
    ]
    records = people + rows("crew.group", 9, text="x") + rows("crew.permission", 9, note="x")
    proposal = infer(dump(records))
    assert relation(proposal, label, "groups").to == "auth.group"
    assert relation(proposal, label, "user_permissions").to == "auth.permission"
    assert key(proposal, "auth.group").natural_key == ["name"]
    there = infer(dump(records + rows("auth.group", 9, name="x", permissions=[1, 2])))
    assert relation(there, label, "groups").to == "auth.group"
    assert relation(there, label, "groups").confidence >= 0.9
    assert relation(there, "auth.group", "permissions").to == "auth.permission"


def test_a_group_of_django_is_not_sure_where_the_own_app_has_a_kind_of_groups() -> None:
    groups = rows("auth.group", 9, name="x") + rows("shop.buyergroup", 9, text="x")
    customers = fields_of("shop.buyer", "group", [1, 3, 5, 8])
    found = relation(infer(dump(groups + customers)), "shop.buyer", "group")
    assert {found.to, found.others[0].to} == {"auth.group", "shop.buyergroup"}
    assert found.confidence < 0.6
    customers = fields_of("shop.buyer", "group", [1, 3, 5, 11])
    groups += rows("auth.group", 9, 10, name="x")
    found = relation(infer(dump(groups + customers)), "shop.buyer", "group")
    assert (found.to, found.confidence >= 0.9) == ("auth.group", True)


def test_a_model_of_an_app_with_the_name_of_the_field_may_be_meant_as_well() -> None:
    records = rows("auth.permission", 9, name="x") + rows("permissions.ownpermission", 9, text="x")
    records += fields_of("shop.access", "permissions", [[1, 3], [5, 8]])
    found = relation(infer(dump(records)), "shop.access", "permissions")
    assert {found.to, found.others[0].to} == {"auth.permission", "permissions.ownpermission"}
    assert found.confidence < 0.6


def test_a_model_of_the_app_that_the_field_begins_with_may_be_meant_as_well() -> None:
    groups = rows("auth.group", 9, name="x") + rows("teams.authgroup", 9, text="x")
    records = groups + fields_of("chat.link", "auth_group", [1, 3, 5, 8])
    found = relation(infer(dump(records)), "chat.link", "auth_group")
    assert {found.to, found.others[0].to} == {"auth.group", "teams.authgroup"}
    assert found.confidence < 0.6
    records = groups + fields_of("teams.link", "auth_group", [1, 3, 5, 8])
    found = relation(infer(dump(records)), "teams.link", "auth_group")
    assert (found.to, found.confidence >= 0.9) == ("teams.authgroup", True)


def test_a_model_that_a_project_has_swapped_is_not_sure_nor_is_that_of_the_own_app() -> None:
    fields = {"secret": "x", "home": "y", "scope": "z"}
    records = rows("oauth.client", 5, **fields) + rows("own.client", 5, **fields, note="n")
    records += fields_of("oauth.token", "client", [1, 2, 5, 4])
    found = relation(infer(dump(records)), "oauth.token", "client")
    assert found.confidence < 0.9
    assert any("own.client has all of its fields" in sentence for sentence in found.evidence)


def test_a_model_that_only_its_own_app_refers_to_is_not_sure_in_another() -> None:
    records = rows("pictures.source", 9, path="x")
    records += fields_of("pictures.thumb", "source", [1, 4, 9])
    records += fields_of("news.item", "source", [2, 4, 8])
    found = relation(infer(dump(records)), "news.item", "source")
    assert (found.to, found.confidence < 0.9) == ("pictures.source", True)
    assert "no other app refers to that model of pictures" in found.evidence
    records += fields_of("blog.post", "source", [3, 9])
    assert relation(infer(dump(records)), "news.item", "source").confidence >= 0.9


def test_all_ids_of_a_model_in_between_are_not_surely_those_of_a_larger_one() -> None:
    """As where that continues its rows, though no gaps among them, nor its name, say so."""
    ids = [*range(10, 90, 3)]
    vouchers = rows("books.voucher", 99, date="2020-01-01")
    notes = [legacy("store.deliverynote", pk, weight=1.5) for pk in ids]
    records = vouchers + notes + fields_of("store.item", "voucher", ids)
    assert relation(infer(dump(records)), "store.item", "voucher").confidence < 0.9
    records = vouchers + notes + fields_of("store.item", "voucher", [*ids, 1, 99])
    found = relation(infer(dump(records)), "store.item", "voucher")
    assert (found.to, found.confidence >= 0.9) == ("books.voucher", True)


@pytest.mark.parametrize(
    ("app", "each", "others", "is_sure"),
    [
        ("teams", "group", 9, True),
        ("groups", "note", 9, True),
        ("groups", "group", 3, True),
        ("groups", "group", 9, False),
    ],
)
def test_what_tells_more_of_each_group_in_an_app_of_groups_may_be_meant(
    app: str, each: str, others: int, is_sure: bool
) -> None:
    records = rows("auth.group", 9, name="x")
    records += [legacy(f"{app}.groupprofile", n, **{each: n}) for n in range(1, others + 1)]
    records += [legacy(f"{app}.groupmember", n, group=n % 9 + 1) for n in range(1, 30)]
    proposal = infer(dump(records))
    found = relation(proposal, f"{app}.groupmember", "group")
    assert (found.to, found.confidence >= 0.9) == ("auth.group", is_sure)
    if each == "group":
        assert relation(proposal, f"{app}.groupprofile", "group").confidence >= 0.9


@pytest.mark.parametrize(
    ("field", "model", "is_sure"),
    [("active_users", "x.user", False), ("user", "x.user", True), ("news", "x.news", True)],
)
def test_a_plural_that_is_one_number_may_be_a_count(field: str, model: str, is_sure: bool) -> None:
    records = rows(model, 9, text="x") + fields_of("x.day", field, [2, 7, 7, 9])
    assert (relation(infer(dump(records)), "x.day", field).confidence >= 0.9) is is_sure


@pytest.mark.parametrize(
    ("ids", "is_sure"), [([1, 2, 3] * 9, False), ([1, 2, 3, 17] * 9, True), ([1, 2, 3], True)]
)
def test_numbers_from_one_on_that_end_early_may_be_choices(ids: list[int], is_sure: bool) -> None:
    records = rows("docs.event", 20, text="x") + fields_of("docs.line", "event", ids)
    found = relation(infer(dump(records)), "docs.line", "event")
    assert (found.to, found.confidence >= 0.9) == ("docs.event", is_sure)


@pytest.mark.parametrize("model", ["docs.events", "docs.Event", "docs.big_event", "docs.bigevents"])
def test_models_are_named_in_the_plural_or_in_several_words_as_well(model: str) -> None:
    label = model.lower()
    field = "bigEvent" if "big" in label else "event"
    found = relation(
        infer(dump(rows(model, 9, text="x") + fields_of("a.b", field, [2, 9]))), "a.b", field
    )
    assert (found.to, found.confidence >= 0.9) == (label, True)


def test_of_models_that_differ_in_the_plural_only_none_is_sure() -> None:
    records = rows("docs.bigevent", 9, text="x") + fields_of("docs.line", "event", [2, 9])
    assert relation(infer(dump(records)), "docs.line", "event").confidence >= 0.9
    found = relation(infer(dump(records + rows("docs.bigevents", 9, x=1))), "docs.line", "event")
    assert {found.to, found.others[0].to} == {"docs.bigevent", "docs.bigevents"}
    assert found.confidence < 0.6


@pytest.mark.parametrize(("ids", "is_sure"), [([4, 3, 5, 4], False), ([4, 3, 5, None], True)])
def test_records_that_all_refer_to_their_own_model_are_in_a_circle(
    ids: list[int | None], is_sure: bool
) -> None:
    records = fields_of("docs.event", "average_of_event", [*ids, 5, 4])
    found = relation(infer(dump(records)), "docs.event", "average_of_event")
    assert (found.to, found.confidence >= 0.9) == ("docs.event", is_sure)


@pytest.mark.parametrize("pks", [[0], [-3, 0], [-3, -1]])
def test_pks_below_one_are_pks(pks: list[int]) -> None:
    records = [legacy("docs.event", pk, text="x") for pk in pks]
    records += fields_of("docs.line", "event", pks * 9)
    assert relation(infer(dump(records)), "docs.line", "event").to == "docs.event"


def test_ids_that_are_all_of_a_child_may_be_meant_to_be() -> None:
    records = pages(40) + [legacy("blog.blogpage", pk, body="x") for pk in (31, 33, 34, 37)]
    far = fields_of("shop.link", "page", [31, 33, 34, 37, 2])
    assert relation(infer(dump(records + far)), "shop.link", "page").confidence >= 0.9
    near = fields_of("shop.link", "page", [31, 33, 34, 37])
    found = relation(infer(dump(records + near)), "shop.link", "page")
    assert (found.to, found.confidence < 0.9) == ("site.page", True)


@pytest.mark.parametrize("prefix", ["", "net-prefix/"])
def test_random_ids_need_no_name(prefix: str) -> None:
    uuids = [prefix + str(UUID(int=n * 7919)) for n in range(1, 9)]
    records = [legacy("net.prefix", one, text="x") for one in uuids]
    records += fields_of("net.address", "inside", uuids[:3])
    records += fields_of("net.note", "object_id", uuids[:3])
    proposal = infer(dump(records))
    found = relation(proposal, "net.address", "inside")
    assert (found.to, found.named, found.confidence >= 0.9) == ("net.prefix", False, True)
    # What a generic relation refers to may be of other models as well.
    assert relation(proposal, "net.note", "object_id").confidence < 0.9


def test_a_type_beside_an_id_is_a_content_type() -> None:
    content_types = rows("contenttypes.contenttype", 30, app_label="a", model="b")
    notes = [legacy("net.note", n, owner_type=7 + 3 * n, owner_id=n) for n in range(1, 6)]
    found = relation(infer(dump(content_types + notes)), "net.note", "owner_type")
    assert (found.to, found.confidence >= 0.9) == ("contenttypes.contenttype", True)
    notes = [legacy("net.note", n, owner_type=n % 3 + 1, owner_id=n) for n in range(1, 20)]
    found = relation(infer(dump(content_types + notes)), "net.note", "owner_type")
    assert found.confidence < 0.9


def test_an_id_beside_a_content_type_of_its_name_may_be_of_any_model() -> None:
    records = rows("shop.product", 9, name="x")
    records += [legacy("shop.item", n, product_id=n, product_content_type=7) for n in range(1, 9)]
    found = relation(infer(dump(records)), "shop.item", "product_id")
    assert (found.named, found.confidence < 0.5) == (False, True)


@pytest.mark.parametrize("with_types", [True, False])
def test_an_id_beside_a_type_that_holds_content_types_may_be_of_any_model(with_types: bool) -> None:
    def to_user(types: list[int]) -> float:
        records = users(40)
        if with_types:
            records += rows("contenttypes.contenttype", 60, app_label="a", model="b")
        records += [
            legacy("net.note", n, user_type=types[n % 3], user_id=n * 7 % 40 + 1)
            for n in range(1, 30)
        ]
        return relation(infer(dump(records)), "net.note", "user_id").confidence

    assert to_user([7, 12, 33]) < 0.5
    if with_types:  # else nobody can tell
        assert to_user([1, 2, 3]) >= 0.9


@pytest.mark.parametrize(
    ("label", "field", "expected"),
    [
        ("docs.folder", "parent", {"docs.folder"}),
        ("docs.historicalfolder", "parent", {"docs.folder"}),
        ("docs.folderchild", "parent", {"docs.folder", "docs.folderchild"}),
        ("docs.case", "units", {"docs.units", "docs.caseunits"}),
        ("docs.plainmembership", "team", {"docs.team", "docs.plainteam"}),
        ("docs.membership", "team", {"docs.team"}),
        ("docs.paper", "status", {"docs.status", "docs.sheetstatus"}),
        ("docs.statuslog", "status", {"docs.status"}),
        ("sales.plainteamprice", "team", {"docs.team", "docs.plainteam"}),
        ("sales.price", "team", {"docs.team"}),
        ("sales.price", "group", {"auth.group", "docs.papergroup"}),
        ("sales.user", "groups", {"auth.group"}),
        ("docs.membership", "paper_track", {"docs.paper", "other.track"}),
        ("docs.membership", "track_paper", {"docs.paper"}),
        ("docs.paper", "creator", {"sales.creator", "users.user"}),
        ("docs.groupkind", "kind", {"other.kind"}),
        ("docs.userforumgrant", "grant", {"other.grant", "docs.forumgrant"}),
        ("docs.paper", "polymorphic_ctype", {"contenttypes.contenttype"}),
    ],
)
def test_models_that_share_what_a_name_says(label: str, field: str, expected: set[str]) -> None:
    models = "folder historicalfolder folderchild case units caseunits paper groupkind sheetkind"
    models += " team plainteam membership plainmembership userforumgrant forumgrant"
    models += " status statuslog sheetstatus papergroup"
    labels = [f"docs.{name}" for name in models.split()]
    labels += ["sales.creator", "users.user", "other.kind", "other.grant", "other.track"]
    labels += ["auth.group", "sales.price", "sales.plainteamprice", "sales.user"]
    beside = ["userpermissions"] * (label == "sales.user")
    names = Names(labels, "users.user", ["contenttypes.contenttype"])
    found = names.matches(label, field, beside)
    assert {one.to for one in found} == expected
    strongest = max(one.strength for one in found)
    assert (strongest > 0.9) == (len(expected) == 1)


@pytest.mark.parametrize(("beside", "is_sure"), [("product", False), ("note", True)])
def test_a_name_may_go_on_from_that_of_the_field_beside_it(beside: str, is_sure: bool) -> None:
    records = rows("shop.unit", 9, name="x") + rows("shop.productunit", 9, grams=5)
    records += [legacy("shop.line", n, **{beside: "x", "unit": n}) for n in (2, 5, 9)]
    found = relation(infer(dump(records)), "shop.line", "unit")
    assert (found.to, found.confidence >= 0.9) == ("shop.unit", is_sure)


def test_of_models_named_alike_that_which_the_own_model_is_named_after_comes_first() -> None:
    labels = ["io.redisstore", "io.cloudstore", "io.redisstorelink"]
    first, second = Names(labels, None).matches("io.redisstorelink", "store")
    assert (first.to, second.to) == ("io.redisstore", "io.cloudstore")
    assert second.strength < 0.1 < 0.9 < first.strength


def test_what_means_people_in_other_apps_may_mean_them_beside_a_model_of_its_name() -> None:
    records = [
        *rows("auth.user", 9, username="x", password="x"),
        *rows("jobs.creator", 9, text="x"),
    ]
    jobs = [legacy("jobs.job", n, creator=3 * n) for n in (1, 2, 3)]
    assert relation(infer(dump([*records, *jobs])), "jobs.job", "creator").confidence >= 0.9
    news = [legacy("news.news", n, creator=3 * n) for n in (1, 2, 3)]
    proposal = infer(dump([*records, *jobs, *news]))
    assert relation(proposal, "jobs.job", "creator").confidence < 0.9
    assert relation(proposal, "news.news", "creator").confidence < 0.9


def test_content_types_left_out_are_known_all_the_same() -> None:
    records = [legacy("log.entry", n, content_type=7, object_id=n) for n in range(1, 5)]
    proposal = infer(dump(records))
    found = relation(proposal, "log.entry", "content_type")
    assert (found.to, found.confidence >= 0.9) == ("contenttypes.contenttype", True)
    assert any("no records of contenttypes" in sentence for sentence in found.evidence)
    assert proposal.models["contenttypes.contenttype"] == 0
    schema = proposal.schema()
    assert schema.models["contenttypes.contenttype"].natural_key == ["app_label", "model"]
    assert schema.models["log.entry"].generic_relations == {
        "object_id": GenericRelation(
            content_type="content_type", object_id="object_id", may_dangle=True
        )
    }
    assert any(note.startswith("log.entry: object_id") for note in proposal.notes)


def test_ids_beside_what_may_be_no_content_type_are_told_as_left_out() -> None:
    records = rows("contenttypes.contenttype", 30, app_label="a", model="b")
    records += [legacy("log.entry", n, content_type=n % 3 + 1, object_id=n) for n in range(1, 20)]
    proposal = infer(dump(records))
    assert proposal.schema().models["log.entry"].generic_relations == {}
    left_out = "log.entry.object_id -> what content_type names: that is not sure enough"
    assert left_out in proposal.left_out()
    assert left_out not in proposal.left_out(minimum=0.5)


def test_further_backups_supply_what_is_referred_to() -> None:
    papers = [legacy("docs.paper", n, author=10 + n) for n in range(1, 9)]
    proposal = infer(dump(papers), keys=[dump(users(9, first=11))])
    assert relation(proposal, "docs.paper", "author").to == "users.user"
    assert relation(infer(dump(users(9, first=11) + papers)), "docs.paper", "author").values == 8


# ---- natural keys ------------------------------------------------------------------------------


def test_a_code_is_preferred_to_other_unique_columns() -> None:
    records = [
        legacy(
            "docs.kind", n, uuid=f"{n:08}-0000-0000-0000-000000000000", code=f"K{n}", hue=f"h{n}"
        )
        for n in range(1, 9)
    ]
    records += [legacy("docs.paper", n, kind=1 + n % 8) for n in range(1, 20)]
    found = key(infer(dump(records)), "docs.kind")
    assert found.natural_key == ["code"]
    assert found.confidence >= 0.9
    assert ["uuid"] in [other.natural_key for other in found.others]


def test_a_name_and_its_slug_leave_the_key_undecided() -> None:
    records = [legacy("docs.tag", n, name=f"Tag {n}", slug=f"tag-{n}") for n in range(1, 9)]
    records += [legacy("docs.paper", n, tag=1 + n % 8) for n in range(1, 20)]
    found = key(infer(dump(records)), "docs.tag")
    assert found.natural_key == ["slug"]
    assert found.others[0].natural_key == ["name"]
    assert found.confidence < 0.9


def test_a_code_of_the_model_itself_is_the_key_beside_a_relation_of_its_name() -> None:
    wholes = [None, None, 37, 37, 74, 111, 148, 111]
    records = [
        legacy("text.part", n * 37, part_code=f"c{n}", part=whole)
        for n, whole in enumerate(wholes, 1)
    ]
    proposal = infer(dump(records + fields_of("text.line", "part", [74, 185, 296])))
    assert relation(proposal, "text.part", "part").confidence >= 0.5
    found = key(proposal, "text.part")
    assert (found.natural_key, found.confidence >= 0.9) == (["part_code"], True)


@pytest.mark.parametrize(("beside", "is_sure"), [("lang", False), ("branch", True)])
def test_a_code_of_what_a_relation_leads_to_is_hardly_the_key(beside: str, is_sure: bool) -> None:
    records = rows(f"text.{beside}", 9, note="x")
    records += [legacy("text.version", n, lang_code=f"c{n}", **{beside: n}) for n in range(1, 9)]
    records += fields_of("text.line", "version", [2, 5, 8])
    found = key(infer(dump(records)), "text.version")
    assert (found.natural_key, found.confidence >= 0.9) == (["lang_code"], is_sure)


def test_sessions_and_the_log_of_the_admin_have_no_key() -> None:
    people = [legacy("auth.user", n, username=f"u{n}", password="x") for n in range(1, 5)]
    sessions = [legacy("sessions.session", f"ky{n}zs", session_data=f"d{n}") for n in range(4)]
    entries = [legacy("admin.logentry", n, user=n, object_repr="x") for n in range(1, 5)]
    proposal = infer(dump(people + sessions + entries))
    assert [one.model for one in proposal.keys if one.model != "auth.permission"] == ["auth.user"]
    assert proposal.schema().models["sessions.session"] == Model()


@pytest.mark.parametrize(("counted", "is_sure"), [("numchild", False), ("visits", True)])
def test_a_slug_in_a_tree_is_not_sure(counted: str, is_sure: bool) -> None:
    records = [
        legacy("site.node", n, path=f"{n:04}", depth=1 + n % 3, slug=f"s{n}", **{counted: n % 2})
        for n in range(1, 20)
    ]
    found = key(infer(dump(records + fields_of("site.visit", "node", [3, 5, 11]))), "site.node")
    assert (found.natural_key, found.confidence >= 0.9) == (["slug"], is_sure)


def test_numbers_in_quotes_are_hardly_a_key() -> None:
    records = [legacy("docs.area", str(pk), note=None) for pk in range(1, 9)]
    found = key(infer(dump(records + fields_of("docs.item", "area", ["2", "7"]))), "docs.area")
    assert (found.natural_key, found.confidence < 0.5) == (["pk"], True)


@pytest.mark.parametrize("prefix", ["", "tag-", "docs-tag/"])
def test_a_random_pk_is_hardly_a_key(prefix: str) -> None:
    pks = [f"{prefix}{n * 7919:032x}" for n in range(1, 9)]
    records = [legacy("docs.tag", pk, name=f"tag{n}") for n, pk in enumerate(pks)]
    found = key(infer(dump(records)), "docs.tag")
    assert found.natural_key == ["name"]
    assert [other.natural_key for other in found.others] == [["pk"]]


@pytest.mark.parametrize(
    "values",
    [
        ["a", "b", "a"],
        ["a", "b", None],
        [f"a rather long description of thing number {n}" for n in range(3)],
        ["2025-01-01", "2025-01-02", "2025-01-03"],
        ["x\ny", "y\nz", "z\na"],
        [1.5, 2.5, 3.5],
    ],
    ids=["repeated", "null", "prose", "dates", "lines", "fractions"],
)
def test_columns_that_are_no_natural_key(values: list[Any]) -> None:
    records = [legacy("docs.kind", n, name=value) for n, value in enumerate(values, 1)]
    assert infer(dump(records)).keys == []


def test_a_column_that_some_records_lack_is_no_natural_key() -> None:
    records = [legacy("docs.kind", 1, name="a"), legacy("docs.kind", 2), legacy("docs.kind", 3)]
    assert infer(dump(records)).keys == []


def test_one_record_gives_no_key() -> None:
    assert infer(dump([legacy("docs.kind", 1, name="a")])).keys == []


def test_a_key_of_several_columns_passes_through_the_key_of_the_target() -> None:
    records = users(6) + [legacy("users.role", n, name=f"role{n}") for n in range(1, 5)]
    pairs = [(user, role) for user in range(1, 7) for role in range(1, 5)]
    records += [
        legacy("users.userrole", n, user=user, role=role) for n, (user, role) in enumerate(pairs, 1)
    ]
    found = key(infer(dump(records)), "users.userrole")
    assert found.natural_key == ["user__username", "role__name"]
    assert 0.5 < found.confidence < 0.9


def test_a_relation_that_holds_natural_keys_may_be_part_of_a_key_of_several_columns() -> None:
    trails = [
        legacy("a.trail", n, content_type=["users", "user"], row=f"r{n // 2}", act=f"a{n % 2}")
        for n in range(8)
    ]
    people = [keyed("users.user", [f"u{n}"], username=f"u{n}") for n in range(3)]
    natural_key = key(infer(dump([*people, *trails])), "a.trail").natural_key
    assert natural_key == ["content_type__app_label", "content_type__model", "row", "act"]


def test_keys_through_very_many_models_stay_short() -> None:
    """Each has two relations to the one before, which together would double its key."""
    records = [legacy("a.thing0", n, code=f"c{n}") for n in range(9)]
    for number in range(1, 30):
        to = f"thing{number - 1}"
        records += [
            legacy(f"a.thing{number}", n, **{to: n % 3, f"second_{to}": n // 3}) for n in range(9)
        ]
    proposal = infer(dump(records))
    assert max(len(one.natural_key or ()) for one in proposal.keys) in range(4, MAX_KEY_PARTS + 1)


def test_very_many_models_are_compared_in_little_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fields that hold the same ids are looked up once among the pks of each model."""
    looked_up = []

    def counted(codes: Any, pks: Any) -> float:
        looked_up.append(codes)
        return 0.0

    monkeypatch.setattr("fastnk.infer.guess._surprise", counted)
    records = [
        legacy(f"app.m{model}", n, **{f"f{field}_{model}": n for field in range(5)})
        for model in range(100)
        for n in range(1, 4)
    ]
    infer(dump(records))
    assert len(looked_up) == 100


def test_a_key_of_several_columns_never_ends_at_a_relation() -> None:
    records = [legacy("docs.paper", n, text="same") for n in range(1, 6)] + users(5)
    records += [legacy("docs.reading", n, user=1 + n % 5, paper=1 + n // 5) for n in range(0, 25)]
    proposal = infer(dump(records))
    assert "docs.reading" not in {one.model for one in proposal.keys}


# ---- learning from an example ------------------------------------------------------------------

OLD: Records = [
    *users(6, first=100, step=7),
    *[legacy("docs.document", n, number=f"D-{n}", holder=100 + 7 * (n % 6)) for n in range(1, 7)],
    *[
        legacy("docs.version", n, document=1 + (n - 1) // 2, major=n % 2, minor=0, note="x")
        for n in range(1, 13)
    ],
    *[legacy("docs.reading", n, version=n, times=1) for n in range(1, 13)],
    *[legacy("log.line", n, name=f"line{n}") for n in range(1, 4)],
]


def new_records(style: str) -> Records:
    """The system of `OLD` some time later, with natural keys."""

    def record(label: str, key: list[Any], **fields: Any) -> dict[str, Any]:
        return natural(label, **fields) if style == "django" else keyed(label, key, **fields)

    records = [
        record("users.user", [f"user{n}"], username=f"user{n}", password="y") for n in range(8)
    ]
    records += [
        record("docs.document", [f"E-{n}"], number=f"E-{n}", holder=[f"user{n % 7}"])
        for n in range(9)
    ]
    versions = [(f"E-{n}", major, 0) for n in range(9) for major in (1, 2)]
    records += [
        record("docs.version", [*one], document=[one[0]], major=one[1], minor=one[2], note="y")
        for one in versions
    ]
    records += [
        legacy("docs.reading", n, version=[*one], times=1) for n, one in enumerate(versions)
    ]
    records += [legacy("log.line", n, name=f"line{n}") for n in range(1, 4)]
    return records


@pytest.mark.parametrize("style", ["django", "fastnk"])
def test_composed_keys_and_unnamed_relations_are_learned(style: str) -> None:
    proposal = infer(dump(OLD), dump(new_records(style)))
    schema = proposal.schema(0.8)
    assert schema.models["users.user"].natural_key == ["username"]
    assert schema.models["docs.document"].natural_key == ["number"]
    assert schema.models["docs.document"].relations == {"holder": Relation(to="users.user")}
    assert schema.models["docs.version"].natural_key[0] == "document__number"
    assert set(schema.models["docs.version"].natural_key) == {"document__number", "major", "minor"}
    assert schema.models["docs.reading"].relations == {"version": Relation(to="docs.version")}
    assert schema.models["docs.reading"].natural_key is None
    assert key(proposal, "log.line").natural_key is None
    assert "12 records of the backup" in key(proposal, "docs.version").evidence[-1]


def test_keys_through_two_models_are_learned() -> None:
    old = [
        *OLD,
        *[legacy("docs.page", n, version=1 + n // 3, sheet=n % 3) for n in range(36)],
    ]
    new = new_records("fastnk")
    new += [
        keyed("docs.page", [f"E-{n}", major, sheet], version=[f"E-{n}", major, 0], sheet=sheet)
        for n in range(9)
        for major in (1, 2)
        for sheet in range(4, 7)
    ]
    found = key(infer(dump(old), dump(new)), "docs.page")
    assert found.natural_key == ["version__document__number", "version__major", "sheet"]


def test_transforms_are_learned() -> None:
    old = [
        legacy("log.entry", n, when=f"2025-01-0{n}T10:00:00.120Z", serial=n * 11)
        for n in range(1, 6)
    ]
    new = [
        keyed(
            "log.entry",
            [f"2025-02-0{n}T10:00:00.250000+00:00", str(n * 7), str(40 + n)],
            when=f"2025-02-0{n}T10:00:00.250Z",
            serial=n * 7,
        )
        for n in range(1, 6)
    ]
    found = key(infer(dump(old), dump(new)), "log.entry")
    assert found.natural_key == ["when|isoformat", "serial|str", "pk|str"]
    assert found.confidence < 0.9  # the last part is a guess: nothing holds the old ids


def test_many_keys_are_learned() -> None:
    old = [*OLD, *[legacy("docs.team", n, crew=[100, 107]) for n in range(1, 4)]]
    new = [*new_records("django"), legacy("docs.team", 1, crew=[["user1"], ["user5"], ["user2"]])]
    found = relation(infer(dump(old), dump(new)), "docs.team", "crew")
    assert (found.to, found.many, found.confidence >= 0.9) == ("users.user", True, True)


def test_a_pk_that_is_the_key_is_learned_from_the_old_pks() -> None:
    states = ("DRAFT", "READY", "DONE")
    old = [*[legacy("flow.state", state, label=state.title()) for state in states]]
    old += [legacy("flow.step", n, state=states[n % 3]) for n in range(1, 9)]
    new = [natural("flow.state", label=state.title()) for state in states]
    new += [legacy("flow.step", n, state=[states[n % 3]]) for n in range(1, 9)]
    proposal = infer(dump(old), dump(new))
    assert key(proposal, "flow.state").natural_key == ["pk"]
    assert relation(proposal, "flow.step", "state").confidence >= 0.9


def test_a_learned_key_that_the_backup_breaks_is_doubted() -> None:
    old = [*OLD, legacy("docs.document", 99, number="D-1", holder=100)]
    found = key(infer(dump(old), dump(new_records("fastnk"))), "docs.document")
    assert found.natural_key == ["number"]
    assert found.confidence < 0.9
    assert "but it is not unique in the backup" in found.evidence


def test_ids_that_contradict_the_example_lower_the_confidence() -> None:
    old = [r for r in OLD if r["model"] != "docs.document"]
    old += [legacy("docs.document", n, number=f"D-{n}", holder=5_000 + n) for n in range(1, 7)]
    found = relation(infer(dump(old), dump(new_records("django"))), "docs.document", "holder")
    assert found.to == "users.user"
    assert found.confidence < 0.7


def test_a_mixed_backup_teaches_itself() -> None:
    new = [
        keyed("users.user", [f"user{n}"], username=f"user{n}", password="z") for n in range(6, 9)
    ]
    records = [*OLD, *new, keyed("docs.document", ["D-8"], number="D-8", holder=["user7"])]
    proposal = infer(dump(records))
    assert key(proposal, "users.user").natural_key == ["username"]
    assert relation(proposal, "docs.document", "holder").confidence >= 0.9
    assert any("natural keys itself" in note for note in proposal.notes)


def test_an_example_without_natural_keys_is_refused() -> None:
    with pytest.raises(UsageError, match="no natural keys"):
        infer(dump(OLD), dump(OLD))


# ---- the proposal ------------------------------------------------------------------------------


def test_table_says_everything_with_its_evidence() -> None:
    table = infer(dump(OLD)).table()
    assert all(len(row) == len(COLUMNS) for row in table)
    holder = next(row for row in table if row[:2] == ("docs.document", "holder"))
    assert holder[2].startswith("-> users.user")
    assert float(holder[3]) > 0
    assert "of the 6 pks of users.user" in holder[4]
    sure = infer(dump(OLD)).table(0.9)
    assert sure == [row for row in table if float(row[3]) >= 0.9]
    assert 0 < len(sure) < len(table)


def test_schema_holds_only_what_is_sure_enough_and_can_be_saved() -> None:
    proposal = infer(dump(OLD), dump(new_records("fastnk")))
    for minimum in (0.0, 0.3, 0.5, 0.8, 0.9, 0.99, 1.0):
        schema = proposal.schema(minimum)
        assert Schema.loads(schema.dumps()) == schema
        assert schema.models.keys() == proposal.models.keys()
    strict = proposal.schema(1.01)
    assert all(not model.relations and not model.natural_key for model in strict.models.values())


def test_a_key_whose_relation_is_not_sure_is_left_out_and_told() -> None:
    proposal = infer(dump(OLD), dump(new_records("fastnk")))
    way = relation(proposal, "docs.version", "document")
    way.confidence = 0.2
    assert proposal.schema(0.5).models["docs.version"].natural_key is None
    told = [sentence for sentence in proposal.left_out(0.5) if "docs.version" in sentence]
    assert any("a relation on its way" in sentence for sentence in told)


def test_document_is_ready_for_json() -> None:
    document = json.loads(json.dumps(infer(dump(OLD)).document()))
    Schema.loads(json.dumps(document["schema"]))
    assert {"relations", "keys", "notes", "left_out", "minimum"} <= document.keys()


# ---- input -------------------------------------------------------------------------------------


def test_a_damaged_backup_is_refused_or_salvaged() -> None:
    cut = dump(OLD)[:-40]
    with pytest.raises(BackupSyntaxError, match="FNK205") as caught:
        infer(cut)
    salvage = caught.value.salvage
    assert salvage is not None
    assert (salvage.records, salvage.lost_records) == (len(OLD) - 1, 1)
    proposal = infer(cut, salvage=True)
    assert sum(proposal.models.values()) == len(OLD) - 1
    (damage,) = proposal.damage
    assert damage in proposal.notes
    assert f"bytes {salvage.losses[0]['start']:,} to {len(cut):,}" in damage


@pytest.mark.parametrize("backup", [b"", b"{", b"[1]", b"[]", b"log line\n[", b'[{"a": 1}]'])
def test_what_is_no_backup_is_refused(backup: bytes) -> None:
    with pytest.raises(BackupSyntaxError):
        infer(backup)


def test_odd_models_and_numbers_are_no_trouble() -> None:
    records = [legacy("docs.paper", n, size=10**30, far=-(2**63), state="\ud800") for n in (1, 2)]
    text = dump(records)[:-1] + b', {"model": "a.b", "pk": 1, "fields": {"n": ' + b"9" * 5_000
    proposal = infer(text + b"}}]")
    assert proposal.models == {"a.b": 1, "docs.paper": 2}


def test_values_beyond_the_cap_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnk.infer.fields.MAX_VALUES", 5)
    records = [legacy("docs.paper", n, user=n) for n in range(1, 21)]
    held = survey(dump(records)).models["docs.paper"]
    assert len(held.columns["user"].codes) == 5
    assert held.columns["user"].count == held.records == len(held.int_pks) == 20


def test_a_capped_field_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnk.infer.fields.MAX_VALUES", 5)
    records = users(30) + [legacy("docs.paper", n, user=n) for n in range(1, 21)]
    found = relation(infer(dump(records)), "docs.paper", "user")
    assert any("of the first 5" in sentence for sentence in found.evidence)
    assert MAX_VALUES > 5


def test_of_very_many_fields_fewer_values_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fastnk.infer.fields.MOST_VALUES", 100)
    monkeypatch.setattr("fastnk.infer.fields.ROOM_CHECKED_EVERY", 10)
    key = {f"key{n}": [f"K{n}", "X"] for n in range(3)}
    many = {f"many{n}": [1, 2, 3] for n in range(3)}
    records = [legacy("docs.paper", n, user=n, **key, **many) for n in range(1, 95)]
    held = survey(dump([*users(30), *records]))
    columns = [
        one
        for model in held.models.values()
        for column in model.columns.values()
        for one in column.all
    ]
    assert sum(len(column.codes) for column in columns) <= 2 * 100
    kept = held.models["docs.paper"].kept
    assert 0 < kept < 94
    for column in held.models["docs.paper"].columns.values():
        assert column.is_capped
        assert {len(part.codes) for part in column.all if part is not column} <= {0, kept}
    assert list(held.models["docs.paper"].columns["user"].codes) == list(range(1, kept + 1))
    found = relation(infer(dump([*users(100), *records])), "docs.paper", "user")
    assert found.to == "users.user"


# ---- parts -------------------------------------------------------------------------------------


def test_ids_are_a_set() -> None:
    for values in ([1, 2, 3], [3, 2, 1, 2], [10, 11, 5, 6, 7, 6, 11, 12], [], [-5, 7, -4]):
        ids = Ids(values)
        assert len(ids) == len(set(values))
        for value in range(-10, 15):
            assert (value in ids) == (value in values)
        assert ids.density(-10, 14) == pytest.approx(len(set(values)) / 25)
        if values:
            assert (ids.lowest, ids.highest) == (min(values), max(values))
        for others in ([], [7], [1, 2, 3, 5], range(-9, 20)):
            assert ids.common(Ids(others)) == len({*values} & {*others})
            assert ids.is_within(Ids(others)) == ({*values} <= {*others})
        for some in ([7], [1, 2, 3], [5, 10]):
            assert ids.has_all(some) == ({*some} <= {*values})
    assert contained([1, 2, 3, 4], Ids([2, 4, 6]), 10) == 0.5


def test_hashes_are_a_set() -> None:
    hashes = Hashes()
    assert not hashes
    some = [hash(str(n % 700)) for n in range(1_000)]
    for value in some:
        hashes.add(value)
    assert len(hashes) == 700
    assert all(value in hashes and value + 1 not in hashes for value in some)
    hashes.add(5)
    assert 5 in hashes
    assert len(hashes) == 701


@pytest.mark.parametrize(
    ("dumped", "spelled"),
    [
        ("2025-01-02T03:04:05Z", "2025-01-02T03:04:05+00:00"),
        ("2025-01-02T03:04:05.678Z", "2025-01-02T03:04:05.678000+00:00"),
        ("2025-01-02T03:04:05.000Z", "2025-01-02T03:04:05+00:00"),
        ("2025-01-02T03:04:05.678+01:00", "2025-01-02T03:04:05.678000+01:00"),
        ("2025-01-02", "2025-01-02"),
    ],
)
def test_times_are_compared_as_isoformat(dumped: str, spelled: str) -> None:
    assert normal_time(dumped) == normal_time(spelled) == spelled


@pytest.mark.parametrize(
    ("field", "to"),
    [
        ("document", "docs.document"),
        ("parent_document", "docs.document"),
        ("documents", "docs.document"),
        ("document_id", "docs.document"),
        ("document_type", "docs.documenttype"),
        ("docs_document", "docs.document"),
        ("from_state", "flow.documentstate"),
        ("cron", "beat.cronschedule"),
        ("categories", "docs.category"),
    ],
)
def test_names(field: str, to: str) -> None:
    labels = ["docs.document", "docs.documenttype", "flow.documentstate", "beat.cronschedule"]
    found = Names([*labels, "docs.category"], None).matches("x.y", field)
    assert [match.to for match in found] == [to]


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ("x.y", "user"),
        ("x.regconfpricing", "reg_conf"),
        ("x.subitem", "item"),
        ("x.y", "poll_type"),
    ],
)
def test_parts_of_names_that_mean_something_else(label: str, field: str) -> None:
    labels = ["x.userprofile", "x.regconfpricing", "x.subitem"]
    names = Names(labels, None, ["contenttypes.contenttype"])
    assert names.matches(label, field) == []
    assert names.matches(label, "content_type")


def test_the_end_of_a_name_that_begins_inside_a_word_says_nothing() -> None:
    labels = ["x.projects", "x.projectstatus", "x.documents", "x.documentstate"]
    names = Names(labels, None)
    assert names.matches("x.y", "tstatus") == []
    assert [one.to for one in names.matches("x.y", "old_state")] == ["x.documentstate"]


@pytest.mark.parametrize("field", ["type", "event_type", "entry", "entries"])
def test_what_is_hardly_ever_meant_by_a_part_of_its_name(field: str) -> None:
    labels = ["contenttypes.contenttype", "admin.logentry"]
    names = Names(labels, None)
    assert names.matches("x.y", field) == []
    assert [one.to for one in names.matches("x.y", "content_type")] == labels[:1]
    more = Names([*labels, "x.eventtype"], None)
    assert [one.to for one in more.matches("x.y", field)] == [
        *(["x.eventtype"] if "type" in field else [])
    ]


def test_a_field_called_like_its_own_model_is_no_relation_to_it() -> None:
    names = Names(["clubs.group", "auth.group", "clubs.event"], None)
    assert [one.to for one in names.matches("clubs.group", "group")] == ["auth.group"]
    (own,) = names.matches("clubs.event", "event")
    assert (own.to, own.strength < 0.5) == ("clubs.event", True)
    (own,) = names.matches("clubs.event", "main_event")
    assert (own.to, own.strength > 0.9) == ("clubs.event", True)


def test_a_name_of_another_app_is_not_sure_where_one_of_the_own_app_is_like_it() -> None:
    labels = ["blog.category", "shop.productcategory", "auth.user", "shop.shopuser"]
    names = Names(labels, "auth.user")
    found = names.matches("shop.product", "category")
    assert {one.to for one in found} == {"blog.category", "shop.productcategory"}
    assert max(one.strength for one in found) < 0.5
    assert [one.to for one in names.matches("shop.product", "user")] == ["auth.user"]
    found = Names(["firms.creator", *labels], "auth.user").matches("blog.post", "creator")
    assert {one.to for one in found} == {"firms.creator", "auth.user"}
    assert max(one.strength for one in found) < 0.5
    found = Names(labels, None).matches("blog.post", "category")
    assert [one.to for one in found] == ["blog.category"]


def test_a_part_of_a_name_is_not_sure_where_another_app_is_called_like_the_field() -> None:
    labels = ["labels.textlabel", "labels.span", "label_types.spantype"]
    found = Names(labels, None).matches("labels.span", "label")
    assert {one.to for one in found} == {"labels.textlabel", "label_types.spantype"}
    (alone,) = Names(labels[:2], None).matches("labels.span", "label")
    assert (alone.to, alone.strength > 0.9) == ("labels.textlabel", True)


def test_the_end_of_the_name_of_its_own_model_says_little_in_a_field() -> None:
    labels = ["x.draftsideeffect", "x.publishsideeffect", "x.change"]
    (of_own,) = Names(labels, None).matches("x.draftsideeffect", "effect")
    (of_another,) = Names(labels[1:], None).matches("x.change", "effect")
    assert (of_own.to, of_another.to) == (labels[1], labels[1])
    assert of_own.strength == of_another.strength / 2


def test_the_beginning_of_a_name_needs_values_that_speak_for_it() -> None:
    def to_language(step: int) -> float:
        records = [legacy("x.language", step * n, text="x") for n in range(1, 5)]
        records += [legacy("x.page", n, lang=step * (1 + n % 4)) for n in range(1, 9)]
        found = relation(infer(dump(records)), "x.page", "lang")
        assert found.to == "x.language"
        return found.confidence

    assert to_language(1) < 0.9 < to_language(5)


@pytest.mark.parametrize("field", ["", "_", "__", "id", "on", "major"])
def test_names_that_say_nothing(field: str) -> None:
    names = Names(["docs.document", "docs.major_event"], "users.user")
    assert names.matches("x.y", field) == []


def test_words() -> None:
    assert is_plain("version_major")
    assert not is_plain("document")
    words = ("categories", "users", "boxes", "status", "class", "access")
    assert [singular(word) for word in words] == [
        "category",
        "user",
        "box",
        "status",
        "class",
        "access",
    ]


def test_models_in_capitals_are_read_as_django_reads_them() -> None:
    records = [legacy("Shop.Kind", n, name=f"kind{n}") for n in range(1, 9)]
    records += [legacy("Shop.kind", n, name=f"kind{n}") for n in range(9, 12)]
    records += [legacy("Shop.Item", n, kind=12 - n) for n in range(1, 12)]
    schema = infer(dump(records)).schema()
    assert schema.models.keys() == {"Shop.kind", "Shop.item"}
    assert schema.models["Shop.item"].relations == {"kind": Relation(to="Shop.kind")}


def test_labels_that_no_schema_can_hold_are_told_by_the_schema() -> None:
    proposal = infer(dump([legacy("nodot", 1, name="a")]))
    with pytest.raises(SchemaError, match="nodot"):
        proposal.schema()


@pytest.mark.parametrize("levels", [6, 400, 800])
def test_lists_in_lists_are_data_however_deep(levels: int) -> None:
    nested = json.loads("[" * levels + '"x"' + "]" * levels)
    proposal = infer(dump([legacy("a.b", n, x=nested, author=n) for n in (1, 2)]))
    assert proposal.models == {"a.b": 2}
    assert not proposal.notes
