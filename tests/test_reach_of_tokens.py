"""What a token hands out never exceeds the token itself (R13), however that is called; and odd ways to ask."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens.models import ApiToken, TokenType
from apitokens.setup import hold
from audit.models import AuditEvent
from tenants.models import Membership
from tests.cast import bearer, everything_stored
from tests.factories import RoleFactory

HOUR = timedelta(hours=1)


@pytest.fixture
def caller(world):
    """An environment's token that ends in an hour and is used from this machine alone."""
    acme = world.acme
    made = acme.issue_for_environment(name="Caller", kind="access_token", expires_at=timezone.now() + HOUR)
    ApiToken.objects.filter(pk=made.token.pk).update(ip_allowlist=["127.0.0.0/8"])
    return made


def call(machine, caller, method, path, body=None):
    return machine.generic(
        method, f"/api/v1/{path}", data="" if body is None else body, content_type="application/json",
        headers=bearer(caller.plaintext),
    )  # fmt: skip


@pytest.mark.parametrize(("body", "status"), [('{"expires_in": null}', 403), ('{"expires_in": 1800}', 200)])
def test_a_token_does_not_prolong_its_own_life(world, machine, caller, body, status):
    answer = call(machine, caller, "PATCH", f"tokens/{caller.token.token_id}", body)
    assert answer.status_code == status
    left = ApiToken.objects.get(pk=caller.token.pk).expires_at - timezone.now()
    assert left <= HOUR
    if status == 403:
        assert answer.json()["code"] == "wider_than_caller"


SIBLINGS = [
    pytest.param({"expires_at": timezone.now() + HOUR / 2}, ["127.0.0.1/32"], True, id="within"),
    pytest.param({}, ["127.0.0.1/32"], False, id="outlives-it"),
    pytest.param({"expires_at": timezone.now() + HOUR / 2}, [], False, id="from-anywhere"),
    pytest.param({"expires_at": timezone.now() + HOUR / 2}, ["10.0.0.0/8"], False, id="from-elsewhere"),
]


@pytest.mark.parametrize(("act", "status"), [("rotate", 201), ("enable", 200)])
@pytest.mark.parametrize(("asked", "networks", "allowed"), SIBLINGS)
def test_a_token_rotates_and_enables_nothing_wider_than_itself(
    world, machine, caller, act, status, asked, networks, allowed
):
    sibling = world.acme.issue_for_environment(name="Sibling", kind="access_token", **asked).token
    disabled_at = timezone.now() if act == "enable" else None
    ApiToken.objects.filter(pk=sibling.pk).update(ip_allowlist=networks, disabled_at=disabled_at)
    answer = call(machine, caller, "POST", f"tokens/{sibling.token_id}/{act}")
    if allowed:
        assert answer.status_code == status
    else:
        assert (answer.status_code, answer.json()["code"]) == (403, "wider_than_caller")


def test_however_long_the_chain_a_compromised_token_takes_it_all_along(world, machine):
    """A thief may have made each by the one before: more than any stack is deep."""
    acme = world.acme
    root = acme.issue_for_environment(name="Root", kind="access_token").token
    fields = [field.attname for field in ApiToken._meta.concrete_fields if not field.generated]
    own = {"id", "token_id", "client_id", "name", "name_key", "parent_id"}
    same = {name: getattr(root, name) for name in fields if name not in own}
    chain, parent = [], root
    for n in range(1_200):
        unique = {"token_id": f"chain{n:07}", "client_id": f"chain-{n}", "name": f"C {n}", "name_key": f"c {n}"}
        parent = ApiToken(**same, **unique, parent=parent)
        chain.append(parent)
    ApiToken.objects.bulk_create(chain)
    backend = acme.issue_for_environment(name="Other", kind="access_token")
    capped = call(machine, backend, "PATCH", f"tokens/{root.token_id}", '{"expires_in": 86400}')
    assert capped.status_code == 200
    assert not ApiToken.objects.filter(client_id__startswith="chain-", expires_at__isnull=True).exists()
    assert call(machine, backend, "DELETE", f"tokens/{root.token_id}?compromised=true").status_code == 204
    assert list(ApiToken.objects.values_list("name", flat=True)) == ["Other"]
    assert AuditEvent.objects.filter(verb="apitoken.deleted").count() == 1_201


ASKED = [
    ("tokens", {"name": "x", "kind": "access_token", "roles": ["{secret}"]}),
    ("tokens", {"name": "x", "kind": "access_token", "permissions": ["{secret}"]}),
    ("roles", {"name": "x", "level": 1, "permissions": ["{secret}"]}),
    ("roles", {"name": "{secret}", "level": 1}),
    ("invitations", {"email": "a@example.com", "roles": ["{secret}"]}),
]


@pytest.mark.parametrize(("path", "body"), ASKED)
def test_a_secret_in_the_wrong_field_is_not_in_the_record_of_the_refusal(acme, path, body):
    secret = acme.issue("admin").plaintext
    filled = {
        name: [secret if item == "{secret}" else item for item in value]
        if isinstance(value, list)
        else (secret if value == "{secret}" else value)
        for name, value in body.items()
    }
    assert acme.api("viewer", "POST", f"{path}?tenant={acme.tenant.id}", filled).status_code == 403
    assert secret not in str(everything_stored())


VENDORS = [
    ("tenants", {"name": "{secret}", "slug": "s", "external_id": "{secret}"}, 403),
    ("tenants", {"name": "x", "slug": "{secret}"[:63]}, 400),
    ("environments", {"name": "x", "slug": "s", "audience": "urn:x", "token_prefix": "{secret}"}, 400),
    ("permissions", {"key": "{padding}{secret}"}, 400),
    ("vendor-invitations", {"email": "a@example.com", "role": "{secret}", "environments": None}, 400),
]


@pytest.mark.parametrize(("path", "body", "status"), VENDORS)
def test_nor_is_most_of_a_secret_that_was_too_long_for_its_field(world, path, body, status):
    """Cut before it is known for a secret, nearly all of it would stay."""
    secret = world.acme.issue("admin").plaintext
    words = {"{secret}": secret, "{padding}{secret}": "a" * 60 + ":" + secret}
    filled = {name: words.get(value, value) for name, value in body.items()}
    answer = world.office.api("auditor", "POST", path, filled, environment=world.production)
    assert answer.status_code == status
    assert secret[:40] not in str(everything_stored())


@pytest.mark.parametrize("slug", ["%00", "%F0%9F%92%A5", "a" * 5000, "..", "Production"])
def test_an_environment_of_an_impossible_name_is_one_that_is_not_there(world, slug):
    for path in ("tenants", "events", "roles", "vendor-members"):
        assert world.office.api("owner", "GET", f"{path}?environment={slug}").status_code == 404


def test_nobody_gives_themselves_a_role_by_a_token_that_they_made(world, machine):
    """Without the strict ceiling a token of Ada's may hand out what Ada lacks; to Ada, nobody but others may."""
    acme = world.acme
    TokenType.objects.update(may_make_tokens=True)
    type(world.production).objects.filter(pk=world.production.pk).update(strict_ceiling=False)
    low = RoleFactory(environment=world.production, key="low", name="Low", level=5)
    hold(low, ["billing:manage"])
    made = acme.issue("admin", roles=["admin"])
    for person, status in (("member", 200), ("admin", 403)):
        path = f"/api/v1/members/{acme.people[person].id}"
        body = {"roles": [person, "low"]}
        answer = machine.patch(path, body, content_type="application/json", headers=bearer(made.plaintext))
        assert answer.status_code == status, answer.content
    assert answer.json()["code"] == "own_roles"


def test_whoever_may_stop_tokens_but_not_read_them_learns_how_many(world, machine):
    acme = world.acme
    acme.issue("admin", name="Unseen")
    stopper = acme.issue("admin", name="Stopper", permissions=["apitokens:delete"], roles=[])
    answer = machine.post(
        "/api/v1/tokens/disable-all?dry_run=true", {"owner": "tenant"}, content_type="application/json",
        headers=bearer(stopper.plaintext),
    )  # fmt: skip
    assert answer.status_code == 200
    assert (answer.json()["count"], answer.json()["tokens"]) == (2, [])


@pytest.mark.postgres
def test_a_vendors_edit_of_a_role_locks_nobodys_membership(world):
    """Not even in passing: a held membership of somebody else's tenant must not hold it up."""
    role = world.acme.role("viewer")
    with CaptureQueriesContext(connection) as captured:
        answer = world.office.api("owner", "PATCH", f"roles/{role.id}", {"name": "V"}, environment=world.production)
    assert answer.status_code == 200
    locking = [query["sql"] for query in captured if "FOR " in query["sql"] and '"tenants_membership"' in query["sql"]]
    assert locking == []
    assert Membership.objects.exists()
