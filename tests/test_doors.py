"""R2: somebody else's tenant is 404 at every door, byte for byte the answer for one that never existed.

The doors are read from Django's own URL map, so that a new address is either walked here or named as public.
"""

import json
import re
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.test import Client
from django.utils import timezone

from apitokens.governance import invitations
from apitokens.models import ApiToken, TokenType
from apitokens.principals import system
from audit.models import AuditEvent
from tests.cast import basic, bearer, everything_stored, jwt_of, removed_from_sso
from tests.doors import API, NEW, PAGES, VERBS, console_routes, environment_api_routes, routes, seen
from tests.factories import RoleFactory

SELF = {f"api/v1/token/self{path}" for path in ("", "/rotate", "/rotate/complete", "/rotate/cancel")}
# About whoever asks, and no id of anybody's in the address.
OWN = {
    "", "console/", *SELF, "accounts/password/change/", "accounts/logout/",
    "account/", "account/tokens/", "account/sessions/", "account/security/", "account/security/app/add/",
    "account/security/app/remove/", "account/security/passkeys/add/", "account/security/recovery-codes/",
    "account/security/recovery-codes/new/", "accounts/confirm/", "accounts/confirm/code/", "accounts/confirm/passkey/",
}  # fmt: skip
# Of one's own passkeys; test_security.py knocks with those of others.
OF_PASSKEYS = {f"account/security/passkeys/<int:pk>/{act}/" for act in ("rename", "remove")}
PUBLIC = {
    "accounts/login/", "accounts/login/passkey/", "accounts/login/code/", "accounts/inactive/",
    "accounts/password/reset/", "accounts/password/reset/done/",
    "accounts/password/reset/key/<uidb36>-<key>/", "accounts/password/reset/key/done/", "oauth2/token",
    "oauth2/introspect", "oauth2/revoke",
    "theme/", "language/", "e/<slug:environment>/logo/<str:digest>", "e/<slug:environment>/brand/<str:digest>.css",
    "e/<slug:environment>/jwks.json", "e/<slug:environment>/status/<int:number>",
    "e/<slug:environment>/.well-known/oauth-authorization-server",
    ".well-known/oauth-authorization-server/e/<slug:environment>",
    ".well-known/openid-configuration/e/<slug:environment>",
    "e/<slug:environment>/.well-known/openid-configuration", "api/schema/", "api/docs/", "invitations/<str:key>/",
    "sign-in/", "t/<slug:slug>/sign-in/", "t/<slug:slug>/sign-in/callback/",
    "healthz", "readyz", "metrics",
}  # fmt: skip


def test_every_address_is_walked_or_named_as_public():
    walked = {route for _, route, _, _ in [*PAGES, *API]}
    of_environments = console_routes() | environment_api_routes()
    assert sorted(routes()) == sorted([*walked, *of_environments, *OWN, *OF_PASSKEYS, *PUBLIC])


@pytest.fixture
def doors(world):
    """A token in Acme and one in Globex; every type may make tokens, so that only the tenant stands in the way."""
    TokenType.objects.update(may_make_tokens=True)
    world.token = {house.tenant.slug: house.issue("admin").token for house in (world.acme, world.globex)}
    world.role = {house.tenant.slug: _own_role(house) for house in (world.acme, world.globex)}
    world.invitation = {house.tenant.slug: _invited(house) for house in (world.acme, world.globex)}
    world.removed = {house.tenant.slug: removed_from_sso(house) for house in (world.acme, world.globex)}
    return world


def _own_role(house):
    return RoleFactory(environment=house.environment, tenant=house.tenant, key="own:keeper", name="Keeper", level=1)


def _invited(house):
    asked = {"email": "somebody@example.com", "roles": ["viewer"], "at": timezone.now()}
    return invitations.invite(by=system(house.environment), tenant=house.tenant, **asked).invitation


def _ids(doors, house):
    return {
        "slug": house.tenant.slug,
        "tenant": str(house.tenant.id),
        "external": house.tenant.external_id,
        "token_id": doors.token[house.tenant.slug].token_id,
        "member_id": str(house.people["member"].id),
        "role_id": str(doors.role[house.tenant.slug].id),
        "invitation_id": str(doors.invitation[house.tenant.slug].id),
        "removed_id": str(doors.removed[house.tenant.slug].id),
    }


def _never():
    nobody = {name: str(uuid4()) for name in ("member_id", "invitation_id", "role_id", "removed_id")}
    return {"slug": "never", "tenant": str(uuid4()), "external": "never", "token_id": "0" * 12, **nobody}


def _signed_in(house):
    browser = house.browser("admin")
    house.form(browser)
    csrf = {"X-CSRFToken": browser.cookies["csrftoken"].value}

    def call(verb, path, body, **asked):
        return browser.generic(verb, path, headers=csrf, **asked, **_encoded(path, body))

    return call


def _machine(headers):
    return lambda verb, path, body, **asked: Client().generic(
        verb, path, headers=headers, **asked, **_encoded(path, body)
    )


def _encoded(path, body):
    if path.startswith("/api/"):
        return {"data": json.dumps(body or {}), "content_type": "application/json"}
    return {"data": urlencode(body or {}, doseq=True), "content_type": "application/x-www-form-urlencoded"}


def _tenant_access_token(doors, house):
    return _machine(bearer(house.issue("admin", name="Caller", roles=["admin"]).plaintext))


def _tenant_jwt(doors, house):
    client = house.issue("admin", name="Caller", kind="client_credentials", roles=["admin"])
    return _machine(bearer(jwt_of(Client(), client)))


def _personal_token(doors, house):
    return _machine(bearer(house.issue("admin", name="Caller", owner="user").plaintext))


def _environment_token(doors, house):
    """Acme's side is that of the other environment: it has a tenant of the same name, not the same tenant."""
    house = doors.acme_staging if house is doors.acme else house
    return _machine(bearer(house.issue_for_environment(kind="access_token").plaintext))


def _environment_basic(doors, house):
    house = doors.acme_staging if house is doors.acme else house
    client = house.issue_for_environment(kind="client_credentials")
    return _machine(basic(client.token.client_id, client.plaintext))


def _environment_jwt_bound_to_the_tenant(doors, house):
    client = house.issue_for_environment(kind="client_credentials", name=f"For {house.tenant.name}")
    return _machine(bearer(jwt_of(Client(), client, tenant=str(house.tenant.id))))


def _session(doors, house):
    return _signed_in(house)


CALLERS = [
    _session, _tenant_access_token, _tenant_jwt, _personal_token, _environment_token, _environment_basic,
    _environment_jwt_bound_to_the_tenant,
]  # fmt: skip


def _address(route, ids, named_by=""):
    path = "/" + re.sub(r"<\w+:(\w+)>", lambda found: ids[found[1]], route)
    return f"{path}?tenant={ids[named_by]}" if named_by else path


def _filled(body, ids):
    return json.loads(re.sub(r"<\w+:(\w+)>", lambda found: ids[found[1]], json.dumps(body)))


def _assert_like_never(call, verb, route, body, status, foreign, named_by=""):
    stranger, nobody = (call(verb, _address(route, ids, named_by), body) for ids in (foreign, {**foreign, **_never()}))
    assert stranger.status_code == status, (verb, route, stranger.content)
    assert seen(stranger) == seen(nobody), (verb, route)


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__.strip("_"))
@pytest.mark.parametrize("named_by", ["tenant", "external"])
def test_in_the_api_another_tenant_is_like_one_that_never_was(doors, caller, named_by):
    call, foreign = caller(doors, doors.acme), _ids(doors, doors.globex)
    served = {(verb, route): body for verb, route, body, _ in API}
    before = everything_stored(but=("django_session",))
    for route in {route for _, route, _, _ in API}:
        for verb in VERBS:
            unserved = 200 if verb == "OPTIONS" else 405
            status = 404 if (verb, route) in served else unserved
            _assert_like_never(call, verb, route, served.get((verb, route)), status, foreign, named_by)
    assert everything_stored(but=("django_session",)) == before


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__.strip("_"))
def test_in_the_api_another_tenants_token_is_like_one_that_never_was(doors, caller):
    """With no tenant named, or with one's own."""
    call, foreign = caller(doors, doors.acme), _ids(doors, doors.globex)
    own = doors.acme_staging if caller.__name__.startswith("_environment_") else doors.acme
    own = doors.acme if caller is _environment_jwt_bound_to_the_tenant else own
    before = everything_stored(but=("django_session",))
    for verb, route, body, _ in API:
        if "token_id" in route:
            _assert_like_never(call, verb, route, body, 404, foreign)
            theirs = {**foreign, "tenant": str(own.tenant.id)}
            answers = [
                call(verb, _address(route, {**theirs, "token_id": token_id}, "tenant"), body)
                for token_id in (foreign["token_id"], "0" * 12)
            ]
            assert [answer.status_code for answer in answers] == [404, 404], (verb, route)
            assert seen(answers[0]) == seen(answers[1])
    assert everything_stored(but=("django_session",)) == before


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__.strip("_"))
def test_in_the_api_another_tenant_named_in_the_body_is_like_one_that_never_was(doors, caller):
    call, foreign = caller(doors, doors.acme), _ids(doors, doors.globex)
    before = everything_stored(but=("django_session",))
    for named_by in ("tenant", "external"):
        stranger, nobody = (
            call("POST", "/api/v1/tokens", {**NEW, "tenant": ids[named_by]}) for ids in (foreign, _never())
        )
        assert stranger.status_code == 404
        assert seen(stranger) == seen(nobody)
    assert everything_stored(but=("django_session",)) == before


@pytest.mark.parametrize("caller", CALLERS, ids=lambda caller: caller.__name__.strip("_"))
@pytest.mark.parametrize("named_by", ["tenant", "external"])
def test_in_the_api_the_same_calls_of_its_owner_succeed(doors, caller, named_by):
    call, own = caller(doors, doors.globex), _ids(doors, doors.globex)
    for verb, route, body, status in API:
        answer = call(verb, _address(route, own, named_by), _filled(body, own))
        assert answer.status_code == status, (verb, route, answer.content)
    named = call("POST", "/api/v1/tokens", {**NEW, "name": "Another", "tenant": own[named_by]})
    assert (named.status_code, named.json()["tenant"]) == (201, own["tenant"])


def test_on_the_pages_another_tenant_is_like_one_that_never_was(doors):
    call, foreign = _signed_in(doors.acme), _ids(doors, doors.globex)
    bodies = {(verb, route): body for verb, route, body, _ in PAGES}
    before = everything_stored(but=("django_session",))
    for route in {route for _, route, _, _ in PAGES}:
        for verb in VERBS:
            _assert_like_never(call, verb, route, bodies.get((verb, route)), 404, foreign)
    assert everything_stored(but=("django_session",)) == before


def test_on_the_pages_another_tenants_token_is_like_one_that_never_was(doors):
    call, own = _signed_in(doors.acme), _ids(doors, doors.acme)
    theirs = {**own, "token_id": doors.token[doors.globex.tenant.slug].token_id}
    before = everything_stored(but=("django_session",))
    for verb, route, body, _ in PAGES:
        if "token_id" in route:
            stranger, nobody = (
                call(verb, _address(route, ids), body) for ids in (theirs, {**own, "token_id": "0" * 12})
            )
            assert stranger.status_code == 404
            assert seen(stranger) == seen(nobody)
    assert everything_stored(but=("django_session",)) == before


def test_on_the_pages_the_same_calls_of_its_owner_succeed(doors):
    call, own = _signed_in(doors.globex), _ids(doors, doors.globex)
    for verb, route, body, status in PAGES:
        answer = call(verb, _address(route, own), body)
        assert answer.status_code == status, (verb, route)
    assert not ApiToken.objects.filter(token_id=own["token_id"]).exists()
    assert AuditEvent.objects.filter(verb="apitoken.deleted", tenant_id=own["tenant"]).count() == 1


@pytest.mark.parametrize("may_look", [False, True], ids=["without-members-read", "with-members-read"])
def test_anothers_personal_token_is_like_one_that_never_was_unless_one_sees_the_members(doors, may_look):
    acme = doors.acme
    token = acme.issue("viewer", owner="user", name="Mine").token
    person = "admin" if may_look else "member"
    assert acme.api(person, "GET", f"tokens/{token.token_id}").status_code == (200 if may_look else 404)
    listed = acme.api(person, "GET", f"tokens?tenant={acme.tenant.id}").json()["results"]
    assert (token.token_id in [row["id"] for row in listed]) == may_look


@pytest.mark.parametrize("owner_is", ["themselves", "a-colleague"])
def test_who_manages_members_stops_a_colleagues_personal_token_and_does_no_more_with_it(doors, owner_is):
    """The owner does the same with it, and all of it succeeds."""
    acme = doors.acme
    is_own = owner_is == "themselves"
    token = acme.issue("admin" if is_own else "member", owner="user", name="Mine").token
    path = f"tokens/{token.token_id}"
    for method, act, body, status in (
        ("PATCH", "", {"name": "Renamed"}, 200),
        ("PATCH", "", {"expires_in": 60}, 200),
        ("PATCH", "", {"roles": ["viewer"]}, 200),
        ("POST", "/rotate", None, 201),
        ("POST", "/disable", None, 200),
        ("POST", "/enable", None, 200),
        ("DELETE", "", None, 204),
    ):
        answer = acme.api("admin", method, path + act, body)
        if is_own or (method, act) in {("POST", "/disable"), ("DELETE", "")}:
            assert answer.status_code == status, (method, act, answer.content)
        else:
            assert (answer.status_code, answer.json()["code"]) == (403, "not_its_owner"), (method, act, body)
    assert not ApiToken.objects.filter(pk=token.pk).exists()
