"""R13: a token makes tokens only where its type says so, never past its own end, and never for more networks."""

from datetime import timedelta
from uuid import uuid4

import pytest
import time_machine

from apitokens import setup
from apitokens.models import ApiToken, TokenType
from audit.models import ActorKind, AuditEvent
from config.demo import PERMISSIONS
from tests.answers import AT, body, problem
from tests.cast import bearer, events, jwt_of, machine_post

NEW = {"name": "CI", "kind": "access_token", "roles": ["viewer"]}
MAKES_NONE = "A token of this type can't make, change or extend tokens: sign in, or use an environment's."


@pytest.fixture
def frozen():
    with time_machine.travel(AT, tick=False) as clock:
        yield clock


@pytest.fixture
def backend(frozen, acme):
    """The vendor's own token, which may make tokens as its type is by default."""
    return acme.issue_for_environment(name="Backend")


def page_of(house, token):
    return f"http://localhost:8000/t/{house.tenant.slug}/tokens/{token.token_id}/"


@pytest.mark.parametrize("may", [False, True])
def test_a_tenants_token_makes_tokens_only_if_its_type_says_so(frozen, acme, machine, may):
    caller = acme.issue("admin", name="Caller", roles=["admin"])
    TokenType.objects.filter(pk=caller.token.token_type_id).update(may_make_tokens=may)
    other = acme.issue("admin", name="Other").token
    base = f"tokens/{other.token_id}"
    for path, sent, status in [("tokens", NEW, 201), (f"{base}/rotate", {}, 201), (f"{base}/enable", {}, 200)]:
        answer = machine_post(machine, caller.plaintext, sent, path)
        if may:
            assert answer.status_code == status
        else:
            refused = problem(403, "token_makes_no_tokens", MAKES_NONE, token_page=page_of(acme, caller.token))
            assert (answer.status_code, answer.json()) == (403, refused)
    by_token = {"actor_kind": ActorKind.TOKEN, "actor_id": caller.token.id}
    assert len(events(**by_token, reason="token_makes_no_tokens")) == (0 if may else 3)
    assert ApiToken.objects.filter(parent=caller.token).count() == may


@pytest.mark.parametrize("path", ["disable", "delete"])
def test_stopping_a_leak_is_no_making(acme, machine, path):
    caller, other = acme.issue("admin", name="Caller", roles=["admin"]), acme.issue("admin", name="Other").token
    address = f"/api/v1/tokens/{other.token_id}"
    headers = bearer(caller.plaintext)
    if path == "delete":
        assert machine.delete(address, headers=headers).status_code == 204
    else:
        assert machine.post(f"{address}/disable", headers=headers).json()["state"] == "disabled"


@pytest.mark.parametrize("named_by", ["id", "external_id"])
def test_the_vendors_token_makes_a_tenants_token(backend, acme, machine, named_by):
    reference = str(getattr(acme.tenant, named_by))
    for number, (query, sent) in enumerate([(f"?tenant={reference}", NEW), ("", {**NEW, "tenant": reference})]):
        answer = machine_post(machine, backend.plaintext, {**sent, "name": f"CI {number}"}, f"tokens{query}")
        made = answer.json()
        known = {"id": made["id"], "name": f"CI {number}", "last_four": made.pop("access_token")[-4:], "flags": []}
        assert (answer.status_code, made) == (201, body(acme, **known))
    child = ApiToken.objects.get(token_id=made["id"])
    event = AuditEvent.objects.get(target_id=child.id)
    assert (child.parent, child.creator) == (backend.token, None)
    assert (event.actor_kind, event.actor_id, event.verb) == ("token", backend.token.id, "apitoken.issued")


def test_the_vendors_token_must_name_the_tenant(backend, acme, machine):
    message = "Name the tenant, by its id or external id."
    answer = machine_post(machine, backend.plaintext, NEW)
    expected = problem(400, "tenant_missing", message, errors={"tenant": [message]})
    assert (answer.status_code, answer.json()) == (400, expected)
    assert machine_post(machine, backend.plaintext, {**NEW, "tenant": acme.tenant.external_id}).status_code == 201


def test_the_vendors_token_makes_one_of_its_own_environment(backend, acme, machine):
    everything = sorted({*setup.BUILT_IN, *PERMISSIONS} - setup.NOT_FOR_BACKENDS)
    sent = {"name": "Second", "kind": "access_token", "owner": "environment", "roles": ["backend"]}
    answer = machine_post(machine, backend.plaintext, sent)
    made = answer.json()
    known = {
        "id": made["id"], "name": "Second", "last_four": made.pop("access_token")[-4:], "owner": "environment",
        "tenant": None, "roles": ["backend"], "granted": everything, "permissions": everything, "expires_at": None,
        "flags": [],
    }  # fmt: skip
    assert (answer.status_code, made) == (201, body(acme, **known))


@pytest.mark.parametrize(("bound", "status"), [(True, 403), (False, 201)])
def test_a_jwt_bound_to_a_tenant_makes_none_that_reaches_beyond_it(frozen, acme, machine, bound, status):
    """R2: else it would hand itself the whole environment."""
    client = acme.issue_for_environment(kind="client_credentials", name="Backend")
    jwt = jwt_of(machine, client, **({"tenant": str(acme.tenant.id)} if bound else {}))
    sent = {"name": "Wide", "kind": "access_token", "owner": "environment", "roles": ["backend"]}
    answer = machine_post(machine, jwt, sent)
    assert answer.status_code == status
    assert ApiToken.objects.filter(name="Wide").exists() == (status == 201)
    if bound:
        assert answer.json() == problem(
            403, "out_of_reach", "This credential acts in one tenant and can't reach beyond it."
        )
        assert events(actor_id=client.token.id) == [("apitoken.issued", "refused", "out_of_reach")]


def test_a_session_makes_no_token_of_the_environment(acme):
    sent = {"name": "Wide", "kind": "access_token", "owner": "environment", "roles": ["viewer"]}
    answer = acme.api("owner", "POST", f"tokens?tenant={acme.tenant.id}", sent)
    assert answer.status_code == 403
    assert not ApiToken.objects.exists()


@pytest.mark.parametrize("who", ["a member", "a former member", "of another tenant", "nobody", "not named"])
def test_the_vendors_token_makes_a_personal_token_for_a_member_it_names(backend, world, machine, who):
    acme, member = world.acme, world.acme.people["member"]
    if who == "a former member":
        type(member).objects.filter(pk=member.pk).update(ended_at=AT)
    users = {
        "of another tenant": {"user": str(world.globex.people["member"].user_id)},
        "nobody": {"user": str(uuid4())},
        "not named": {},
    }
    named = users.get(who, {"user": str(member.user_id)})
    sent = {"name": "Mine", "kind": "access_token", "owner": "user", "tenant": str(acme.tenant.id), **named}
    answer = machine_post(machine, backend.plaintext, {**sent, "roles": ["member"]})
    if who == "a member":
        held = sorted([*setup.MEMBER, "reports:read", "reports:write"])
        made = answer.json()
        known = {
            "id": made["id"], "name": "Mine", "last_four": made.pop("access_token")[-4:], "owner": "user",
            "user": str(member.user_id), "roles": ["member"], "granted": held, "permissions": held,
            "flags": [],
        }  # fmt: skip
        assert (answer.status_code, made) == (201, body(acme, **known))
    else:
        message = "Name the user, by id, whose personal token it is to be: a member of the tenant."
        expected = problem(400, "invalid", message, errors={"user": [message]})
        assert (answer.status_code, answer.json()) == (400, expected)
        assert not ApiToken.objects.filter(owner="user").exists()


def test_a_tenants_token_makes_no_personal_token_even_where_it_makes_others(frozen, acme, machine):
    TokenType.objects.update(may_make_tokens=True)
    caller = acme.issue("admin", name="Caller", roles=["admin"])
    sent = {**NEW, "owner": "user", "user": str(acme.people["viewer"].user_id)}
    answer = machine_post(machine, caller.plaintext, sent)
    refused = problem(403, "token_makes_no_tokens", MAKES_NONE, token_page=page_of(acme, caller.token))
    assert (answer.status_code, answer.json()) == (403, refused)
    assert machine_post(machine, caller.plaintext, NEW).status_code == 201


def test_a_token_grants_no_more_than_it_may_do_itself(frozen, acme, machine):
    """R3, the grantor being a token: its roles are its level; narrowed, or with picked permissions, it has none."""
    TokenType.objects.update(may_make_tokens=True)
    member = acme.issue("admin", name="Member", kind="client_credentials", roles=["member"])
    picked = acme.issue("admin", name="Picked", permissions=["apitokens:create", "reports:read"])
    full = jwt_of(machine, member)
    narrow = jwt_of(machine, member, scope="apitokens:create+reports:read")
    by_permission = {"name": "P", "kind": "access_token", "permissions": ["reports:read"]}
    table = [
        (full, {**NEW, "roles": ["member"]}, 201), (full, {**NEW, "roles": ["admin"]}, 403),
        (narrow, {**NEW, "roles": ["viewer"]}, 403), (narrow, {**by_permission, "name": "P2"}, 201),
        (narrow, {**by_permission, "permissions": ["reports:write"]}, 403),
        (picked.plaintext, {**NEW, "roles": ["viewer"]}, 403), (picked.plaintext, by_permission, 201),
        (picked.plaintext, {**by_permission, "permissions": ["apitokens:read"]}, 403),
    ]  # fmt: skip
    for caller, sent, status in table:
        answer = machine_post(machine, caller, sent)
        assert answer.status_code == status, answer.content
        if status == 403:
            code = "permission_above_ceiling" if "permissions" in sent else "role_above_ceiling"
            assert answer.json()["code"] == code


@pytest.mark.parametrize(
    ("asked", "expires"),
    [
        pytest.param({}, "2031-05-01T13:00:00Z", id="nothing-asked"),
        pytest.param({"expires_in": 60}, "2031-05-01T12:01:00Z", id="earlier"),
        pytest.param({"expires_in": 3600}, "2031-05-01T13:00:00Z", id="the-same"),
        pytest.param({"expires_in": 3601}, None, id="later"),
        pytest.param({"expires_at": None}, None, id="never"),
    ],
)
def test_a_child_expires_no_later_than_its_parent(frozen, acme, machine, asked, expires):
    parent = acme.issue_for_environment(name="Backend", expires_at=AT + timedelta(hours=1))
    answer = machine_post(machine, parent.plaintext, {**NEW, **asked, "tenant": str(acme.tenant.id)})
    if expires:
        assert (answer.status_code, answer.json()["expires_at"]) == (201, expires)
    else:
        message = "It can't outlive the token that made it, which expires 2031-05-01."
        expected = problem(400, "invalid", message, errors={"expires_at": [message]})
        assert (answer.status_code, answer.json()) == (400, expected)
        assert not ApiToken.objects.filter(parent=parent.token).exists()


@pytest.mark.parametrize(("seconds", "status"), [(3600, 200), (3601, 400)])
def test_nobody_extends_a_child_past_its_parent(frozen, acme, machine, seconds, status):
    parent = acme.issue_for_environment(name="Backend", expires_at=AT + timedelta(hours=1))
    made = machine_post(machine, parent.plaintext, {**NEW, "expires_in": 60, "tenant": str(acme.tenant.id)}).json()
    answer = acme.api("admin", "PATCH", f"tokens/{made['id']}", {"expires_in": seconds})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        pytest.param([], ["127.0.0.0/8", "2001:db8::/32"], id="nothing-asked"),
        pytest.param(["127.0.0.1"], ["127.0.0.1/32"], id="fewer"),
        pytest.param(["127.0.0.0/8", "2001:db8:1::/48"], ["127.0.0.0/8", "2001:db8:1::/48"], id="some"),
        pytest.param(["127.0.0.1", "203.0.113.0/24"], None, id="one-beyond"),
        pytest.param(["0.0.0.0/0"], None, id="everything"),
        pytest.param(["::/0"], None, id="everything-v6"),
    ],
)
def test_a_child_inherits_the_networks_of_its_parent(frozen, acme, machine, asked, kept):
    parent = acme.issue_for_environment(name="Backend", ip_allowlist=("127.0.0.0/8", "2001:db8::/32"))
    sent = {**NEW, "ip_allowlist": asked, "tenant": str(acme.tenant.id)}
    answer = machine_post(machine, parent.plaintext, sent)
    if kept:
        assert (answer.status_code, answer.json()["ip_allowlist"]) == (201, kept)
    else:
        message = "It can't be used from more networks than the token that makes it."
        expected = problem(400, "invalid", message, errors={"ip_allowlist": [message]})
        assert (answer.status_code, answer.json()) == (400, expected)


def test_a_secret_of_a_personal_token_is_shown_to_no_token(backend, acme, machine):
    token = acme.issue("member", owner="user", name="Mine").token
    path = f"tokens/{token.token_id}/rotate"
    answer = machine_post(machine, backend.plaintext, {}, path)
    expected = problem(
        403, "not_its_owner", "Only its owner can make, change or enable a personal token, or be shown its secret."
    )
    assert (answer.status_code, answer.json()) == (403, expected)
    assert acme.api("member", "POST", path).status_code == 201
