"""What was left out, taken away or misspelt never comes back by another way (R3, R4, R11, R13)."""

from datetime import timedelta

import pytest
from django.utils import timezone

from apitokens.models import ApiToken, TokenType
from audit.models import AuditEvent, Outcome
from tenants.models import MembershipRole
from tests.cast import bearer, claims_of, jwt_of, shown


@pytest.fixture
def backend(acme):
    return bearer(acme.issue_for_environment().plaintext)


def demote(membership, role):
    MembershipRole.objects.filter(membership=membership).update(role=role)


def test_leaving_out_needs_a_role_to_leave_out_of(acme):
    """Without one, the token would follow its owner and hold what was to be left out."""
    refused = acme.make("owner", owner="user", without=["billing:manage"])
    assert refused.status_code == 422
    assert "Name the roles too" in refused.content.decode()
    assert shown(acme.make("owner", owner="user", roles=["owner"], without=["billing:manage"]))
    assert "billing:manage" not in ApiToken.objects.get().granted


@pytest.mark.parametrize("change", [{"without": ["reports:read"]}, {"permissions": []}, {"roles": []}])
def test_a_change_never_makes_a_token_follow_its_owner_unasked(acme, change):
    token = acme.issue("owner", owner="user", roles=["viewer"]).token
    answer = acme.api("owner", "PATCH", f"tokens/{token.token_id}", change)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid")
    token.refresh_from_db()
    assert token.granted_through == "roles"


def test_a_misspelt_permission_is_not_left_in(acme):
    body = {"name": "CI", "kind": "access_token", "roles": ["admin"], "without": ["settings:manag"]}
    answer = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", body)
    assert (answer.status_code, list(answer.json()["errors"])) == (400, ["without"])
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize(
    ("left_out", "roles"), [pytest.param([], ["admin"], id="whole"), pytest.param(["settings:manage"], None, id="part")]
)
def test_a_role_held_in_part_is_not_claimed(acme, machine, left_out, roles):
    issued = acme.issue("admin", kind="client_credentials", roles=["admin"], without=left_out)
    assert claims_of(jwt_of(machine, issued)).get("roles") == roles


def test_a_demoted_owners_personal_token_claims_no_role_above_them(acme, machine):
    issued = acme.issue("admin", owner="user", kind="client_credentials", roles=["admin"])
    assert claims_of(jwt_of(machine, issued))["roles"] == ["admin"]
    demote(acme.people["admin"], acme.role("viewer"))
    after = claims_of(jwt_of(machine, issued))
    assert "roles" not in after
    assert "settings:manage" not in after["scope"].split()


def test_a_demoted_owners_personal_token_lends_no_level_even_where_the_ceiling_is_not_strict(acme, machine):
    acme.environment.strict_ceiling = False
    acme.environment.save()
    TokenType.objects.update(may_make_tokens=True)
    issued = acme.issue("owner", owner="user", roles=["owner"])
    body = {"name": "New", "kind": "access_token", "roles": ["owner"]}
    ask = lambda: machine.post(  # noqa: E731 -- the same call before and after
        "/api/v1/tokens", data=body, content_type="application/json", headers=bearer(issued.plaintext)
    )
    demote(acme.people["owner"], acme.role("member"))
    assert ask().status_code == 403
    demote(acme.people["owner"], acme.role("owner"))
    assert ask().status_code == 201


def test_a_narrowed_jwt_grants_no_roles_whatever_its_token_becomes(acme, machine):
    """Shrinking the token to the JWT's scope must not make the JWT whole again."""
    issued = acme.issue_for_environment(kind="client_credentials")
    scope = "apitokens:create+apitokens:read+reports:read"
    narrow = bearer(jwt_of(machine, issued, scope=scope, tenant=str(acme.tenant.id)))
    whole = bearer(jwt_of(machine, issued, tenant=str(acme.tenant.id)))
    ApiToken.objects.update(granted=["apitokens:create", "apitokens:read", "reports:read"])
    acme.environment.strict_ceiling = False
    acme.environment.save()
    body = {"name": "New", "kind": "access_token", "roles": ["viewer"]}
    answer = machine.post("/api/v1/tokens", data=body, content_type="application/json", headers=narrow)
    assert (answer.status_code, answer.json()["code"]) == (403, "role_above_ceiling")
    ApiToken.objects.update(granted=sorted(acme.role("backend").permissions.values_list("key", flat=True)))
    assert machine.post("/api/v1/tokens", data=body, content_type="application/json", headers=whole).status_code == 201


@pytest.mark.parametrize("act", ["enable", "rotate", "extend"])
@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param({"is_enabled": False}, "token_type_disabled", id="type-disabled"),
        pytest.param({"carries_all_roles": False}, "role_not_allowed", id="role-not-carried"),
        pytest.param({}, None, id="allowed"),
    ],
)
def test_what_the_token_type_forbids_is_not_granted_anew(acme, act, settings, code):
    token = acme.issue("owner", roles=["viewer"]).token
    ApiToken.objects.update(disabled_at=timezone.now() if act == "enable" else None)
    TokenType.objects.update(**settings)
    path = f"tokens/{token.token_id}"
    if act == "extend":
        answer = acme.api("owner", "PATCH", path, {"expires_in": 86_400})
    else:
        answer = acme.api("owner", "POST", f"{path}/{act}")
    assert answer.json().get("code") == code
    assert (answer.status_code == 403) == bool(code)


def test_a_member_never_makes_an_environments_token_even_with_the_permission(acme):
    demote(acme.people["owner"], acme.role("backend"))
    answer = acme.make("owner", owner="environment", roles=["viewer"])
    assert answer.status_code == 422
    assert "can&#x27;t reach beyond it" in answer.content.decode()
    assert not ApiToken.objects.exists()


def test_shortening_a_token_shortens_all_that_came_of_it(acme, machine, backend):
    TokenType.objects.update(may_make_tokens=True)
    family = [acme.issue_for_environment(name="A")]
    for name in ("B", "C"):
        body = {"name": name, "kind": "access_token", "owner": "environment", "roles": ["backend"]}
        made = machine.post(
            "/api/v1/tokens", data=body, content_type="application/json", headers=bearer(family[-1].plaintext)
        ).json()
        family.append(type(family[0])(ApiToken.objects.get(token_id=made["id"]), made["access_token"]))
    soon = (timezone.now() + timedelta(hours=1)).replace(microsecond=0)
    path = f"/api/v1/tokens/{family[0].token.token_id}"
    body = {"expires_at": soon.isoformat()}
    assert machine.patch(path, data=body, content_type="application/json", headers=backend).status_code == 200
    assert {ApiToken.objects.get(pk=issued.token.pk).expires_at for issued in family} == {soon}
    assert AuditEvent.objects.filter(verb="apitoken.edited").count() == 3
    machine.delete(path, headers=backend)
    assert ApiToken.objects.get(pk=family[1].token.pk).expires_at == soon


def test_a_credential_bound_to_one_tenant_reaches_no_other_and_not_the_environment(acme, globex, machine):
    issued = acme.issue_for_environment(kind="client_credentials")
    bound = bearer(jwt_of(machine, issued, tenant=str(acme.tenant.id)))
    ask = {"kind": "access_token", "roles": ["viewer"]}
    answers = {
        where: machine.post(
            "/api/v1/tokens", data={**ask, "name": where, **extra}, content_type="application/json", headers=bound
        ).status_code
        for where, extra in {
            "own": {},
            "other": {"tenant": str(globex.tenant.id)},
            "environment": {"owner": "environment"},
        }.items()
    }
    assert answers == {"own": 201, "other": 404, "environment": 403}
    assert list(ApiToken.objects.exclude(pk=issued.token.pk).values_list("name", flat=True)) == ["own"]


def test_one_idempotency_key_serves_one_act_on_one_thing(acme):
    first, second = acme.issue("owner", name="One").token, acme.issue("owner", name="Two").token
    key = {"Idempotency-Key": "k"}
    assert acme.api("owner", "POST", f"tokens/{first.token_id}/rotate", **key).status_code == 201
    assert acme.api("owner", "POST", f"tokens/{second.token_id}/rotate", **key).status_code == 201
    assert acme.api("owner", "POST", f"tokens/{second.token_id}/rotate", **key).json()["token"] == second.token_id


def test_a_change_that_changes_nothing_leaves_no_event(acme):
    token = acme.issue("owner").token
    assert acme.api("owner", "PATCH", f"tokens/{token.token_id}", {"name": token.name}).status_code == 200
    assert not AuditEvent.objects.filter(verb="apitoken.edited").exists()


def test_a_refused_grant_is_recorded_with_what_was_asked(acme):
    acme.make("member", name="Too much", roles=["owner"])
    event = AuditEvent.objects.get(outcome=Outcome.REFUSED)
    assert event.after == {
        "name": "Too much", "owner": "tenant", "kind": "access_token", "roles": ["owner"], "permissions": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("written", "address", "allowed"),
    [
        pytest.param("::ffff:203.0.113.5", "203.0.113.5", True, id="ipv4-in-ipv6"),
        pytest.param("::ffff:203.0.113.5", "203.0.113.6", False, id="another-address"),
    ],
)
def test_an_ipv4_address_written_in_ipv6_is_that_address(acme, machine, written, address, allowed):
    issued = acme.issue("owner", ip_allowlist=(written,))
    answer = machine.get("/api/v1/token/self", headers=bearer(issued.plaintext), REMOTE_ADDR=address)
    assert (answer.status_code == 200) == allowed


def test_an_address_with_a_zone_is_refused(acme):
    answer = acme.make("owner", roles=["viewer"], ip_allowlist="fe80::1%eth0")
    assert answer.status_code == 422
    assert "is not an address or a network" in answer.content.decode()


def test_an_environments_token_makes_nothing_in_a_suspended_tenant(acme, machine, backend):
    body = {"name": "New", "kind": "access_token", "roles": ["viewer"], "tenant": str(acme.tenant.id)}
    ask = {"data": body, "content_type": "application/json", "headers": backend}
    for suspended_at, status in ((timezone.now(), 404), (None, 201)):
        acme.tenant.suspended_at = suspended_at
        acme.tenant.save()
        assert machine.post("/api/v1/tokens", **ask).status_code == status
