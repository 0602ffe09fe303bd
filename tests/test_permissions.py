"""Permissions: what exists in an environment, and what goes with one that is ended."""

import pytest

from apitokens.models import ApiToken
from apitokens.setup import hold
from audit.models import AuditEvent
from tenants.models import Permission, Role, RolePermission
from tests.cast import bearer, everything_stored
from tests.factories import RoleFactory

SELF = "/api/v1/token/self"
# What signing in writes.
SIGN_IN = ("django_session", "accounts_user")


@pytest.fixture
def call(world):
    def call(method, path="", body=None, person="admin", **headers):
        return world.office.api(person, method, f"permissions{path}", body, environment=world.production, **headers)

    return call


@pytest.fixture
def reports(world):
    return Permission.objects.get(environment=world.production, key="reports:read")


def test_a_permission_is_made_and_answered_whole(world, call):
    answer = call("POST", body={"key": "invoices:send", "description": "Send invoices", "for_personal_tokens": False})
    made = Permission.objects.get(key="invoices:send")
    assert answer.status_code == 201
    assert answer.json() == {
        "id": str(made.id),
        "key": "invoices:send",
        "description": "Send invoices",
        "is_built_in": False,
        "for_environment_tokens": True,
        "for_tenant_tokens": True,
        "for_personal_tokens": False,
    }
    assert answer["Location"] == f"/api/v1/permissions/{made.id}"
    read = call("GET", f"/{made.id}", person="auditor")
    assert read.json() == {**answer.json(), "usage": {"roles": 0, "tokens": 0}}
    assert read["ETag"] == answer["ETag"]
    event = AuditEvent.objects.get(verb="permission.created")
    assert (event.environment_id, event.tenant_id, event.target_id) == (world.production.id, None, made.id)
    assert event.after == {
        "key": "invoices:send",
        "description": "Send invoices",
        "for_environment_tokens": True,
        "for_tenant_tokens": True,
        "for_personal_tokens": False,
    }


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        pytest.param({"key": "reports:read"}, 409, "key", id="taken"),
        pytest.param({"key": "a b"}, 400, "key", id="space"),
        pytest.param({"key": 'a"b'}, 400, "key", id="quote"),
        pytest.param({"key": "a\\b"}, 400, "key", id="backslash"),
        pytest.param({"key": "reports:*"}, 400, "key", id="wildcard"),
        pytest.param({"key": "bericht:läsen"}, 400, "key", id="not-ascii"),
        pytest.param({"key": "a" * 129}, 400, "key", id="long"),
        pytest.param({"key": "a" * 128}, 201, None, id="longest"),
        pytest.param({"key": "Reports:Read"}, 201, None, id="another-case-is-another"),
        pytest.param({"key": "x", "description": "a\nb"}, 400, "description", id="lines"),
        pytest.param({"key": "apitokens:shred"}, 400, "key", id="of-a-built-in-family"),
        pytest.param({"key": "environment-tokens:x"}, 400, "key", id="of-another-built-in-family"),
        pytest.param({"key": "apitokens"}, 400, "key", id="a-built-in-family-alone"),
        pytest.param({"key": "apitokens-own:read"}, 201, None, id="that-only-looks-built-in"),
        pytest.param({"key": "x", "is_built_in": True}, 400, "is_built_in", id="unknown-field"),
        pytest.param({"key": "x", "is_safe_in_public": True}, 400, "is_safe_in_public", id="nothing-reads-it-yet"),
    ],
)
def test_a_key_is_a_scope_token_and_unique(call, body, status, field):
    answer = call("POST", body=body)
    assert answer.status_code == status, answer.content
    if field:
        assert list(answer.json()["errors"]) == [field]


@pytest.mark.parametrize(("person", "status"), [("owner", 201), ("admin", 201), ("auditor", 403)])
def test_the_vendors_owners_and_admins_make_them_and_auditors_read_them(call, person, status):
    assert call("POST", body={"key": "x:y"}, person=person).status_code == status
    assert call("GET", person=person).status_code == 200


def test_a_tenants_people_see_what_can_be_given_and_change_nothing(acme, globex, reports):
    listed = acme.api("admin", "GET", f"permissions?tenant={acme.tenant.id}").json()["results"]
    keys = [row["key"] for row in listed]
    assert "reports:read" in keys
    assert "environments:create" not in keys
    assert acme.api("viewer", "GET", f"permissions?tenant={acme.tenant.id}").status_code == 403
    path = f"permissions/{reports.id}?environment={acme.environment.slug}"
    assert acme.api("owner", "PATCH", path, {"description": "x"}).status_code == 404


@pytest.mark.parametrize("body", [{"description": "Mine"}, {"for_tenant_tokens": False}])
def test_a_built_in_one_is_what_it_is(world, call, body):
    built_in = Permission.objects.get(environment=world.production, key="members:read")
    before = everything_stored(but=(*SIGN_IN, "audit_auditevent", "audit_person"))
    changed = call("PATCH", f"/{built_in.id}", body)
    assert (changed.status_code, changed.json()["code"]) == (409, "built_in")
    deleted = call("DELETE", f"/{built_in.id}?force=true")
    assert (deleted.status_code, deleted.json()["code"]) == (409, "built_in")
    assert everything_stored(but=(*SIGN_IN, "audit_auditevent", "audit_person")) == before


def test_narrowing_its_owners_binds_new_grants_and_takes_nothing(world, acme, call, machine, reports):
    token = acme.issue("admin", permissions=["reports:read"])
    through = acme.issue("admin", name="Through", roles=["viewer"])
    assert call("PATCH", f"/{reports.id}", {"for_tenant_tokens": False}).status_code == 200
    for issued in (token, through):
        assert "reports:read" in machine.get(SELF, headers=bearer(issued.plaintext)).json()["scope"]
    new = acme.api(
        "admin",
        "POST",
        f"tokens?tenant={acme.tenant.id}",
        {"name": "New", "kind": "access_token", "permissions": ["reports:read"]},
    )
    assert (new.status_code, list(new.json()["errors"])) == (400, ["permissions"])


def test_of_two_editors_the_second_has_to_look_again(call, reports):
    seen = call("GET", f"/{reports.id}")["ETag"]
    assert call("PATCH", f"/{reports.id}", {"description": "First"}, **{"If-Match": seen}).status_code == 200
    assert call("PATCH", f"/{reports.id}", {"description": "Second"}, **{"If-Match": seen}).status_code == 412
    reports.refresh_from_db()
    assert reports.description == "First"


def test_one_in_use_is_not_deleted_unsaid(acme, call, reports):
    acme.issue("admin", roles=["viewer"])
    acme.issue("admin", name="Picked", permissions=["reports:read"])
    before = everything_stored(but=SIGN_IN)
    answer = call("DELETE", f"/{reports.id}")
    usage = {"roles": 5, "tokens": 2}
    assert (answer.status_code, answer.json()["code"], answer.json()["usage"]) == (409, "in_use", usage)
    assert call("GET", f"/{reports.id}").json()["usage"] == usage
    dry = call("DELETE", f"/{reports.id}?dry_run=true").json()
    assert (dry["count"], [row["lost"] for row in dry["tokens"]]) == (2, [["reports:read"]] * 2)
    assert everything_stored(but=SIGN_IN) == before


@pytest.mark.parametrize("asked", [{"roles": ["viewer"]}, {"permissions": ["reports:read", "reports:write"]}])
def test_forced_it_goes_for_good_and_one_of_the_same_key_comes_back_to_no_token(acme, call, machine, reports, asked):
    issued = acme.issue("admin", **asked)
    assert call("DELETE", f"/{reports.id}?force=true").status_code == 204
    again = Permission.objects.create(environment=acme.environment, key="reports:read")
    RolePermission.objects.create(role=acme.role("viewer"), permission=again, environment=acme.environment)
    answer = machine.get(SELF, headers=bearer(issued.plaintext))
    assert "reports:read" not in answer.json().get("scope", "").split()
    assert "reports:read" not in ApiToken.objects.get(pk=issued.token.pk).granted
    trail = AuditEvent.objects.get(verb="apitoken.permission_deleted")
    assert trail.target_id == issued.token.id
    assert set(trail.before["granted"]) - set(trail.after["granted"]) == {"reports:read"}


def test_a_replacement_goes_to_roles_and_to_no_token(acme, call, machine, reports):
    view = Permission.objects.create(environment=acme.environment, key="reports:view")
    RolePermission.objects.create(role=acme.role("viewer"), permission=view, environment=acme.environment)
    issued = acme.issue("admin", permissions=["reports:read", "reports:write"])
    follows = acme.issue("member", owner="user", name="Follows")
    assert call("DELETE", f"/{reports.id}?replacement=reports:view").status_code == 204
    holders = Role.objects.filter(environment=acme.environment, permissions=view).values_list("key", flat=True)
    assert sorted(holders) == ["admin", "backend", "member", "owner", "viewer"]
    assert machine.get(SELF, headers=bearer(issued.plaintext)).json()["scope"] == "reports:write"
    assert "reports:view" in machine.get(SELF, headers=bearer(follows.plaintext)).json()["scope"].split()


def test_a_token_gives_as_replacement_what_it_has(world, acme, machine, reports):
    """The role backend holds permissions:delete; a token without the replacement can't hand it to roles."""
    Permission.objects.create(environment=world.production, key="secret:thing")
    backend = acme.issue_for_environment(kind="access_token")
    url = f"/api/v1/permissions/{reports.id}?replacement="
    refused = machine.delete(f"{url}secret:thing", headers=bearer(backend.plaintext))
    assert (refused.status_code, refused.json()["code"]) == (403, "permission_above_ceiling")
    assert machine.delete(f"{url}reports:write", headers=bearer(backend.plaintext)).status_code == 204


@pytest.mark.parametrize(("level", "status"), [(1000, 204), (1001, 403)])
def test_a_replacement_changes_no_role_above_whoever_asks(world, acme, machine, reports, level, status):
    """It writes into every role that held the other: those are covered as by any edit of a role."""
    above = RoleFactory(environment=world.production, key="above", name="Above", level=level)
    hold(above, ["reports:read"])
    backend = acme.issue_for_environment(kind="access_token")
    url = f"/api/v1/permissions/{reports.id}?replacement=reports:write"
    answer = machine.delete(url, headers=bearer(backend.plaintext))
    assert answer.status_code == status
    keys = {204: {"reports:write"}, 403: {"reports:read"}}[status]
    assert set(above.permissions.values_list("key", flat=True)) == keys


def test_widening_to_whom_it_may_be_granted_is_granting(world, acme, machine):
    """Personal tokens that follow their owner have it from that moment on."""
    secret = Permission.objects.create(environment=world.production, key="secret:thing", for_personal_tokens=False)
    backend = acme.issue_for_environment(kind="access_token")
    url, headers = f"/api/v1/permissions/{secret.id}", bearer(backend.plaintext)
    widen = machine.patch(url, {"for_personal_tokens": True}, content_type="application/json", headers=headers)
    assert (widen.status_code, widen.json()["code"]) == (403, "permission_above_ceiling")
    narrow = machine.patch(url, {"for_tenant_tokens": False}, content_type="application/json", headers=headers)
    assert narrow.status_code == 200


def test_a_tenants_token_reaches_no_permission_of_its_environment(acme, machine, reports):
    Role.objects.filter(key="admin", environment=acme.environment).first()
    token = acme.issue("admin", roles=["admin"])
    for method, path, status in (
        ("post", "/api/v1/permissions", 403),
        ("patch", f"/api/v1/permissions/{reports.id}", 403),
        ("delete", f"/api/v1/permissions/{reports.id}", 403),
    ):
        answer = getattr(machine, method)(
            path, {"key": "x:y"} if method == "post" else {}, content_type="application/json",
            headers=bearer(token.plaintext),
        )  # fmt: skip
        assert (answer.status_code, answer.json()["code"]) == (status, "out_of_reach")


def test_another_environments_permission_is_unknown(world, call):
    staging = Permission.objects.get(environment=world.staging, key="reports:read")
    for method in ("GET", "PATCH", "DELETE"):
        assert call(method, f"/{staging.id}", {} if method == "PATCH" else None).status_code == 404


def test_the_list_is_paged_by_key(call):
    first = call("GET", "?page_size=2").json()
    assert [row["key"] for row in first["results"]] == ["apitokens:create", "apitokens:delete"]
    assert (sorted(first), first["previous"]) == (["next", "previous", "results"], None)
    for cursor, status in (("nonsense", 404), ("cD0lMDA=", 404)):
        assert call("GET", f"?cursor={cursor}").status_code == status, cursor
