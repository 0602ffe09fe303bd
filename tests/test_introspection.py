"""`POST /oauth2/introspect` by RFC 7662: whole answers, for what is active and for what is not."""

from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlencode

import pytest
import time_machine
from django.utils import timezone

from apitokens import gathering, limiter
from apitokens.models import ApiToken, SigningKey, TokenType, UsageHour
from apitokens.setup import hold
from audit.models import AuditEvent
from tenants.models import ApiIdentifier, Environment, Membership, Permission, Role, RolePermission, Tenant
from tests.answers import CHALLENGES, INACTIVE, SCOPE, inactive, kept_by_nobody, refused
from tests.cast import GUARD, ask_oauth, basic, bearer, claims_of, everything_stored, guarding, jwt_of, wrong_secret

FORM = "application/x-www-form-urlencoded"
NOW = timezone.now()


def ask(machine, form, headers=None, **how):
    return ask_oauth(machine, "introspect", form, headers, **how)


@pytest.fixture
def guard(acme, machine):
    """The vendor's API in Acme's environment: an environment's client that may introspect, and how it asks."""
    return guarding(machine, acme.issue_for_environment(**GUARD))


def active(answer, **expected):
    assert (answer.status_code, answer.json()) == (200, {"active": True, **expected})
    kept_by_nobody(answer)


def test_a_jwt_is_told_with_all_that_it_may_do(acme, machine, guard):
    issued = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    text = jwt_of(machine, issued)
    claims = claims_of(text)
    active(
        guard.ask(text),
        scope=claims["scope"],
        client_id=issued.token.client_id,
        token_type="Bearer",
        exp=claims["exp"],
        iat=claims["iat"],
        sub=issued.token.client_id,
        aud=f"https://api.{acme.environment.slug}.example",
        iss=f"http://localhost:8000/e/{acme.environment.slug}",
        jti=claims["jti"],
        tenant=str(acme.tenant.id),
        tenant_external_id=acme.tenant.external_id,
        env=acme.environment.slug,
        roles=["viewer"],
    )


def test_an_opaque_token_is_told_in_the_same_words(acme, machine, guard):
    at = timezone.now().replace(microsecond=0)
    issued = acme.issue("admin", roles=["viewer"], expires_at=at + timedelta(days=3))
    active(
        guard.ask(issued.plaintext),
        scope=" ".join(issued.token.granted),
        client_id=issued.token.client_id,
        token_type="Bearer",
        exp=int(at.timestamp()) + 3 * 86_400,
        iat=int(issued.token.created_at.timestamp()),
        sub=issued.token.client_id,
        aud=[acme.environment.issuer, f"https://api.{acme.environment.slug}.example"],
        iss=f"http://localhost:8000/e/{acme.environment.slug}",
        tenant=str(acme.tenant.id),
        tenant_external_id=acme.tenant.external_id,
        env=acme.environment.slug,
        roles=["viewer"],
    )


def test_what_acts_for_its_environment_names_no_tenant_and_what_never_expires_no_end(acme, machine, guard):
    opaque = acme.issue_for_environment(permissions=["reports:read"], roles=[], name="Opaque")
    ApiToken.objects.filter(pk=opaque.token.pk).update(expires_at=None)
    token = opaque.token
    active(
        guard.ask(opaque.plaintext),
        scope="reports:read",
        client_id=token.client_id,
        token_type="Bearer",
        iat=int(token.created_at.timestamp()),
        sub=token.client_id,
        aud=[acme.environment.issuer, f"https://api.{acme.environment.slug}.example"],
        iss=acme.environment.issuer,
        env=acme.environment.slug,
    )


def test_a_jwt_of_the_environment_is_told_with_the_tenant_that_it_is_bound_to(acme, machine, guard):
    client = acme.issue_for_environment(kind="client_credentials", permissions=["reports:read"], roles=[])
    bound = guard.ask(jwt_of(machine, client, tenant=acme.tenant.external_id)).json()
    assert (bound["tenant"], bound["tenant_external_id"]) == (str(acme.tenant.id), acme.tenant.external_id)
    unbound = guard.ask(jwt_of(machine, client)).json()
    assert set(bound) - set(unbound) == {"tenant", "tenant_external_id"}


def test_a_narrowed_jwt_names_no_role(acme, machine, guard):
    issued = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    told = guard.ask(jwt_of(machine, issued, scope="reports:read")).json()
    assert (told["scope"], told.get("roles")) == ("reports:read", None)


def test_what_a_role_has_lost_since_is_not_told(acme, machine, guard):
    """R5: a live JWT is answered with its scope ∩ effective now."""
    client = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    opaque = acme.issue("admin", name="Opaque", roles=["viewer"])
    text = jwt_of(machine, client)
    assert "reports:read" in guard.ask(text).json()["scope"].split()
    RolePermission.objects.filter(role__key="viewer", permission__key="reports:read").delete()
    for token in (text, opaque.plaintext):
        told = guard.ask(token).json()
        assert told["active"] is True
        assert "reports:read" not in told["scope"].split()


def test_what_a_role_has_gained_since_is_not_told_either(acme, machine, guard):
    text = jwt_of(machine, acme.issue("admin", kind="client_credentials", roles=["viewer"]))
    hold(acme.role("viewer"), ["reports:write"])
    assert "reports:write" not in guard.ask(text).json()["scope"].split()


def test_a_token_that_ends_sooner_than_its_jwt_ends_the_jwt(acme, machine, guard):
    at = timezone.now().replace(microsecond=0)
    issued = acme.issue("admin", kind="client_credentials", expires_at=at + timedelta(days=3))
    text = jwt_of(machine, issued)
    ApiToken.objects.filter(pk=issued.token.pk).update(expires_at=at + timedelta(minutes=10))
    assert guard.ask(text).json()["exp"] == int(at.timestamp()) + 600
    with time_machine.travel(at + timedelta(minutes=10), tick=False):
        inactive(guard.ask(text))


OTHER_API = "https://files.example"


def test_a_jwt_for_another_api_is_active_for_whoever_guards_that_one_and_401_at_our_own(acme, machine, guard):
    ApiIdentifier.objects.create(environment=acme.environment, uri=OTHER_API)
    issued = acme.issue("admin", kind="client_credentials")
    text = jwt_of(machine, issued, resource=OTHER_API)
    told = guard.ask(text).json()
    assert (told["active"], told["aud"]) == (True, OTHER_API)
    refusal = machine.get("/api/v1/token/self", headers=bearer(text))
    assert (refusal.status_code, refusal.json()["code"]) == (401, "invalid_token")
    ApiIdentifier.objects.filter(uri=OTHER_API).delete()
    inactive(guard.ask(text))


@pytest.mark.parametrize("held", [(), (OTHER_API,), ("default", OTHER_API)], ids=["all", "one", "two"])
def test_an_opaque_token_names_every_api_that_it_is_good_for(acme, guard, held):
    ApiIdentifier.objects.create(environment=acme.environment, uri=OTHER_API)
    default = f"https://api.{acme.environment.slug}.example"
    audiences = tuple(default if uri == "default" else uri for uri in held)
    told = guard.ask(acme.issue("admin", audiences=audiences).plaintext).json()["aud"]
    assert told == {0: [acme.environment.issuer, default, OTHER_API], 1: OTHER_API, 2: [default, OTHER_API]}[len(held)]


def test_not_before_is_told(acme, machine, guard):
    issued = acme.issue("admin")
    begins = timezone.now().replace(microsecond=0) - timedelta(hours=1)
    ApiToken.objects.filter(pk=issued.token.pk).update(not_before=begins)
    assert guard.ask(issued.plaintext).json()["nbf"] == int(begins.timestamp())


def _set(model, key, **fields):
    return lambda token: model.objects.filter(pk=getattr(token, key)).update(**fields)


DEAD = {
    "environment suspended": _set(Environment, "environment_id", suspended_at=NOW),
    "environment deleted": _set(Environment, "environment_id", deleted_at=NOW),
    "tenant suspended": _set(Tenant, "tenant_id", suspended_at=NOW),
    "tenant deleted": _set(Tenant, "tenant_id", deleted_at=NOW),
    "owner left": _set(Membership, "membership_id", ended_at=NOW),
    "owner suspended": _set(Membership, "membership_id", suspended_at=NOW),
    "disabled": _set(ApiToken, "pk", disabled_at=NOW),
    "expired": _set(ApiToken, "pk", created_at=NOW - timedelta(days=1), expires_at=NOW),
    "not yet": _set(ApiToken, "pk", not_before=NOW + timedelta(hours=1)),
    "an allowlist": _set(ApiToken, "pk", ip_allowlist=["203.0.113.0/24"]),
    "for no API": _set(ApiToken, "pk", audiences=["https://gone.example"]),
    "powerless": lambda token: RolePermission.objects.exclude(permission__key="tokens:introspect").delete(),
    "deleted": lambda token: token.delete(),
}


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
@pytest.mark.parametrize("reason", DEAD)
def test_what_does_not_work_is_inactive_and_why_is_nobodys_business(acme, machine, guard, reason, kind):
    issued = acme.issue("admin", owner="user", kind=kind)
    token = jwt_of(machine, issued) if kind == "client_credentials" else issued.plaintext
    assert guard.ask(token).json()["active"] is True
    DEAD[reason](issued.token)
    if reason.startswith("environment"):
        # Nor has its own guard a credential that works: one of another time asks.
        refused(guard.ask(token), 400, "unauthorized_client", "Its environment is suspended.")
    else:
        inactive(guard.ask(token))


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
def test_a_token_type_that_is_switched_off_is_inactive(acme, machine, guard, kind):
    issued = acme.issue("admin", kind=kind)
    token = jwt_of(machine, issued) if kind == "client_credentials" else issued.plaintext
    assert guard.ask(token).json()["active"] is True
    TokenType.objects.filter(pk=issued.token.token_type_id).update(is_enabled=False)
    inactive(guard.ask(token))


def test_a_jwt_whose_time_has_come_is_inactive(acme, machine, guard):
    issued = acme.issue("admin", kind="client_credentials")
    text = jwt_of(machine, issued)
    end = claims_of(text)["exp"]
    with time_machine.travel(end - 1, tick=False):
        assert guard.ask(text).json()["active"] is True
    with time_machine.travel(end, tick=False):
        inactive(guard.ask(text))


@pytest.mark.parametrize("state", ["retired", "compromised"])
def test_a_jwt_whose_key_is_gone_is_inactive(acme, machine, guard, state):
    text = jwt_of(machine, acme.issue("admin", kind="client_credentials"))
    key = SigningKey.objects.filter(environment=acme.environment)
    key.update(state="published")
    assert guard.ask(text).json()["active"] is True
    key.update(state=state, ended_at=timezone.now())
    inactive(guard.ask(text))


def _strange(world, machine):
    acme, staging = world.acme, world.acme_staging
    client = acme.issue("admin", kind="client_credentials", name="Client")
    opaque = acme.issue("admin", name="Opaque")
    foreign = staging.issue("admin", kind="client_credentials")
    return {
        "nonsense": "nonsense",
        "a blank": " ",
        "a null byte": f"{opaque.plaintext}\0",
        "no JWT": "a.b.c",
        "a client secret": client.plaintext,
        "a client id": client.token.client_id,
        "a wrong checksum": opaque.plaintext[:-1] + ("0" if opaque.plaintext[-1] != "0" else "1"),
        "truncated": opaque.plaintext[:-1],
        "extended": f"{opaque.plaintext}0",
        "an opaque token of another environment": staging.issue("admin", name="Theirs").plaintext,
        "a JWT of another environment": jwt_of(machine, foreign),
        "too long": f"{jwt_of(machine, client)}{'x' * 8192}",
    }


def test_strangers_and_garbage_are_inactive_all_alike(world, machine, guard):
    strange = _strange(world, machine)
    for token in strange.values():
        inactive(guard.ask(token))
    theirs = guarding(machine, world.acme_staging.issue_for_environment(**GUARD))
    seen = {name for name, token in strange.items() if theirs.ask(token).json()["active"]}
    assert seen == {"an opaque token of another environment", "a JWT of another environment"}


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "cake", "\0", ""])
def test_a_hint_that_is_wrong_changes_nothing(acme, machine, guard, hint):
    for issued in (acme.issue("admin", name="One"), acme.issue("admin", name="Two", kind="client_credentials")):
        token = jwt_of(machine, issued) if issued.token.kind == "client_credentials" else issued.plaintext
        assert guard.ask(token, token_type_hint=hint).content == guard.ask(token).content != INACTIVE


FROM = [
    pytest.param({}, False, id="not-said"),
    pytest.param({"client_ip": ""}, False, id="empty"),
    pytest.param({"client_ip": "203.0.113.5"}, True, id="inside"),
    pytest.param({"client_ip": "203.0.114.5"}, False, id="outside"),
    pytest.param({"client_ip": "127.0.0.1"}, False, id="the-callers-own"),
    pytest.param({"client_ip": "2001:db8::1"}, True, id="v6-inside"),
    pytest.param({"client_ip": "2001:db9::1"}, False, id="v6-outside"),
    pytest.param({"client_ip": "::ffff:203.0.113.5"}, True, id="mapped-inside"),
]


@pytest.mark.parametrize(("sent", "expected"), FROM)
def test_a_token_with_an_allowlist_is_active_for_an_address_inside_it(acme, machine, guard, sent, expected):
    networks = ("203.0.113.0/24", "2001:db8::/32")
    client = acme.issue("admin", kind="client_credentials", name="Client", ip_allowlist=networks)
    inside = type(machine)(REMOTE_ADDR="203.0.113.9")
    opaque = acme.issue("admin", name="Opaque", ip_allowlist=networks)
    for token in (jwt_of(inside, client), opaque.plaintext):
        answer = guard.ask(token, **sent)
        if expected:
            assert answer.json()["active"] is True
        else:
            inactive(answer)
    free = acme.issue("admin", name="Free")
    assert guard.ask(free.plaintext, **sent).json()["active"] is True


@pytest.mark.parametrize(
    "sent", ["nonsense", "203.0.113.5:443", "203.0.113.0/24", "203.0.113.5, 10.0.0.1", "fe80::1%eth0"]
)
def test_a_client_ip_that_is_no_address_is_refused(acme, machine, guard, sent):
    answer = guard.ask(acme.issue("admin").plaintext, client_ip=sent)
    refused(answer, 400, "invalid_request", "The client_ip is not an IP address.")


ACTS = ["tokens:introspect", "reports:read"]


def _callers(world, machine):
    acme = world.acme
    Permission.objects.filter(key="tokens:introspect").update(for_personal_tokens=True)
    for role in Role.objects.filter(key__in=["admin", "owner"]):
        hold(role, ACTS[:1])
    every = {"roles": [], "permissions": ACTS}
    environment = acme.issue_for_environment(kind="client_credentials", name="E", **every)
    tenant = acme.issue("admin", kind="client_credentials", name="T", **every)
    personal = acme.issue("admin", owner="user", kind="client_credentials", name="P", **every)
    return {
        "environment": basic(environment.token.client_id, environment.plaintext),
        "environment, by its JWT": bearer(jwt_of(machine, environment)),
        "environment, by an access token": bearer(acme.issue_for_environment(name="A", **every).plaintext),
        "environment, in a tenant": bearer(jwt_of(machine, environment, tenant=str(acme.tenant.id))),
        "tenant": basic(tenant.token.client_id, tenant.plaintext),
        "tenant, by its JWT": bearer(jwt_of(machine, tenant)),
        "tenant, by an access token": bearer(acme.issue("admin", name="B", **every).plaintext),
        "personal": basic(personal.token.client_id, personal.plaintext),
        "personal, by its JWT": bearer(jwt_of(machine, personal)),
    }


OWN, SAME, OTHER, WHOLE = "of its tenant", "personal of its tenant", "of another tenant", "of the environment"
BOUND, FOREIGN = "of the environment, bound to its tenant", "of another environment"
SEES = {
    "environment": {OWN, SAME, OTHER, WHOLE, BOUND},
    "environment, by its JWT": {OWN, SAME, OTHER, WHOLE, BOUND},
    "environment, by an access token": {OWN, SAME, OTHER, WHOLE, BOUND},
    "environment, in a tenant": {OWN, SAME, BOUND},
    "tenant": {OWN, SAME, BOUND},
    "tenant, by its JWT": {OWN, SAME, BOUND},
    "tenant, by an access token": {OWN, SAME, BOUND},
    "personal": set(),
    "personal, by its JWT": set(),
}


@pytest.mark.parametrize("caller", SEES)
def test_a_caller_sees_its_environment_or_its_tenant_and_a_persons_nothing(world, machine, caller):
    acme = world.acme
    client = acme.issue_for_environment(kind="client_credentials", permissions=["reports:read"], roles=[])
    tokens = {
        OWN: acme.issue("admin", name="Own").plaintext,
        SAME: acme.issue("viewer", owner="user", name="Same").plaintext,
        OTHER: world.globex.issue("admin").plaintext,
        WHOLE: jwt_of(machine, client),
        BOUND: jwt_of(machine, client, tenant=str(acme.tenant.id)),
        FOREIGN: world.acme_staging.issue("admin").plaintext,
    }
    headers = _callers(world, machine)[caller]
    answers = {name: ask(machine, {"token": token}, headers) for name, token in tokens.items()}
    assert {name for name, answer in answers.items() if answer.content != INACTIVE} == SEES[caller]
    assert {answer.status_code for answer in answers.values()} == {200}


MISSING = "This takes the permission tokens:introspect."
NO_CREDENTIALS = "No client credentials: send them as HTTP Basic, in the body or as a client_assertion."
UNKNOWN = "Unknown client or wrong secret."
WRONG_TOKEN = "The token is unknown, expired or malformed."


def _without(c):
    issued = c.house.issue("admin", kind="client_credentials", name="Without", roles=["admin"])
    return {}, basic(issued.token.client_id, issued.plaintext)


def _narrowed(c):
    issued = c.house.issue_for_environment(
        kind="client_credentials", roles=[], permissions=["tokens:introspect", "reports:read"], name="Narrowed"
    )
    return {}, bearer(jwt_of(c.machine, issued, scope="reports:read"))


def _elsewhere(c):
    issued = c.house.issue_for_environment(roles=[], permissions=["tokens:introspect"], name="Elsewhere")
    ApiToken.objects.filter(pk=issued.token.pk).update(ip_allowlist=["203.0.113.0/24"])
    return {}, bearer(issued.plaintext)


def _for_others(c):
    ApiIdentifier.objects.create(environment=c.house.environment, uri=OTHER_API)
    issued = c.house.issue_for_environment(roles=[], permissions=["tokens:introspect"], name="For others")
    ApiToken.objects.filter(pk=issued.token.pk).update(audiences=[OTHER_API])
    return {}, bearer(issued.plaintext)


def _disabled(c):
    ApiToken.objects.filter(pk=c.guard.token.pk).update(disabled_at=NOW)
    return {}, c.guard.headers


def _bearer_says(text):
    return f'Bearer realm="oauth2", error="invalid_token", error_description="{text}"'


_FROM = "The token is right but does not work. It may not be used from this address."
_MEANT = f"The token is right but does not work. It is for {OTHER_API} and not for this API."
BOTH = "Credentials in two ways at once: send them in one."
# What differs from a caller that is answered: (form, headers) -> status, error, text, challenge.
CALLERS = {
    "nobody": (lambda c: ({}, {}), (401, "invalid_client", NO_CREDENTIALS, CHALLENGES)),
    "a wrong secret": (
        lambda c: ({}, basic(c.guard.token.client_id, "wrong")),
        (401, "invalid_client", UNKNOWN, CHALLENGES),
    ),
    "a wrong secret in the body": (
        lambda c: ({"client_id": c.guard.token.client_id, "client_secret": "wrong"}, {}),
        (401, "invalid_client", UNKNOWN, CHALLENGES),
    ),
    "an unknown client": (
        lambda c: ({}, basic("nobody", c.guard.issued.plaintext)),
        (401, "invalid_client", UNKNOWN, CHALLENGES),
    ),
    "a wrong bearer": (
        lambda c: ({}, bearer("never")),
        (401, "invalid_token", WRONG_TOKEN, _bearer_says(WRONG_TOKEN)),
    ),
    "no JWT of ours": (
        lambda c: ({}, bearer("a.b.c")),
        (401, "invalid_token", WRONG_TOKEN, _bearer_says(WRONG_TOKEN)),
    ),
    "not from here": (_elsewhere, (401, "invalid_token", _FROM, _bearer_says(_FROM))),
    "for other APIs": (_for_others, (401, "invalid_token", _MEANT, _bearer_says(_MEANT))),
    "disabled": (_disabled, (400, "unauthorized_client", "It is disabled.")),
    "two ways at once": (
        lambda c: ({"client_id": c.guard.token.client_id, "client_secret": "x"}, c.guard.headers),
        (400, "invalid_request", BOTH),
    ),
    "a bearer and a secret": (
        lambda c: ({"client_id": c.guard.token.client_id, "client_secret": "x"}, bearer("never")),
        (400, "invalid_request", BOTH),
    ),
    "without the permission": (_without, (403, "insufficient_scope", MISSING, SCOPE)),
    "narrowed to something else": (_narrowed, (403, "insufficient_scope", MISSING, SCOPE)),
}


@pytest.mark.parametrize("name", CALLERS)
def test_only_who_may_introspect_is_answered(acme, machine, guard, name):
    token = acme.issue("admin", name="Presented").plaintext
    assert guard.ask(token).json()["active"] is True
    make, expected = CALLERS[name]
    form, headers = make(SimpleNamespace(house=acme, machine=machine, guard=guard))
    refused(ask(machine, {"token": token, **form}, headers), *expected)


@pytest.mark.parametrize("way", ["secret", "access token"])
def test_who_guesses_a_callers_credential_is_told_to_wait_and_the_caller_is_not(acme, machine, guard, monkeypatch, way):
    monkeypatch.setattr(limiter, "PER_CLIENT", 3)
    opaque = acme.issue_for_environment(name="Opaque guard", permissions=["tokens:introspect"], roles=[])
    known = guard.issued if way == "secret" else opaque
    wrong, right = (
        basic(known.token.client_id, plaintext) if way == "secret" else bearer(plaintext)
        for plaintext in (wrong_secret(known), known.plaintext)
    )
    token = acme.issue("admin").plaintext
    with time_machine.travel(timezone.now(), tick=False):
        guesses = [ask(machine, {"token": token}, wrong) for _ in range(limiter.PER_CLIENT)]
        assert {answer.status_code for answer in guesses} == {401}
        limited = ask(machine, {"token": token}, wrong)
        refused(limited, 429, "temporarily_unavailable", "Too many wrong credentials. Try again in 900 seconds.")
        assert limited.headers["Retry-After"] == "900"
        assert ask(machine, {"token": token}, right).json()["active"] is True


def test_a_caller_may_send_its_secret_in_the_body(acme, machine, guard):
    in_body = {"client_id": guard.token.client_id, "client_secret": guard.issued.plaintext}
    token = acme.issue("admin").plaintext
    assert ask(machine, {"token": token, **in_body}).content == guard.ask(token).content != INACTIVE


SHAPES = {
    "no token": (lambda token: ({"client_ip": "192.0.2.1"},), "Missing parameter: token."),
    "an empty token": (lambda token: ({"token": ""},), "Missing parameter: token."),
    "two tokens": (lambda token: (f"token={token}&token={token}",), "Repeated parameter: token."),
    "two hints": (
        lambda token: (f"token={token}&token_type_hint=a&token_type_hint=b",),
        "Repeated parameter: token_type_hint.",
    ),
    "two addresses": (
        lambda token: (f"token={token}&client_ip=192.0.2.1&client_ip=192.0.2.1",),
        "Repeated parameter: client_ip.",
    ),
    "a token in the address": (
        lambda token: ({"token": token}, f"?token={token}"),
        "Parameters belong in the body, not in the address.",
    ),
    "no UTF-8": (lambda token: (b"token=\xff",), "The body is not a readable form."),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_request_of_another_shape_is_refused(acme, machine, guard, name):
    make, text = SHAPES[name]
    form, *query = make(acme.issue("admin").plaintext)
    refused(ask(machine, form, guard.headers, query="".join(query)), 400, "invalid_request", text)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain", ""])
def test_only_a_form_is_read(acme, machine, guard, content_type):
    token = acme.issue("admin").plaintext
    text = f"Send the parameters as {FORM}, in the body; not as JSON or anything else."
    for body in (f'{{"token": "{token}"}}', urlencode({"token": token})):
        refused(ask(machine, body, guard.headers, content_type=content_type), 400, "invalid_request", text)


@pytest.mark.parametrize("verb", ["GET", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"])
def test_only_post_is_served(machine, guard, verb):
    answer = machine.generic(verb, "/oauth2/introspect", headers=guard.headers)
    assert (answer.status_code, answer.headers["Allow"], answer.headers["Cache-Control"]) == (405, "POST", "no-store")
    if verb != "HEAD":
        assert answer.json() == {"error": "invalid_request", "error_description": "Use POST."}


@pytest.mark.parametrize(
    ("caller", "presented", "queries"),
    [("basic", "opaque", 2), ("basic", "jwt", 3), ("basic", "bound jwt", 4), ("jwt", "jwt", 4), ("basic", "none", 1)],
)
def test_it_asks_the_database_a_few_times_and_writes_nothing(
    acme, machine, guard, caller, presented, queries, django_assert_num_queries
):
    """R9."""
    client = acme.issue_for_environment(kind="client_credentials", permissions=["reports:read"], roles=[])
    tokens = {
        "opaque": acme.issue("admin").plaintext,
        "jwt": jwt_of(machine, client),
        "bound jwt": jwt_of(machine, client, tenant=str(acme.tenant.id)),
        "none": "nonsense",
    }
    headers = {"basic": guard.headers, "jwt": bearer(jwt_of(machine, guard.issued))}[caller]
    before = everything_stored()
    with django_assert_num_queries(queries):
        answer = ask(machine, {"token": tokens[presented]}, headers)
    assert answer.json()["active"] == (presented != "none")
    assert everything_stored() == before


def test_an_active_answer_is_a_use_of_the_token_and_asking_one_of_the_callers(acme, machine, guard):
    issued = acme.issue("admin")
    guard.ask(issued.plaintext, client_ip="192.0.2.7")
    guard.ask("nonsense")
    gathering.flush(at=timezone.now())
    counted = UsageHour.objects.values_list("token_id", "outcome", "count")
    assert set(counted) == {(issued.token.id, "introspected", 1), (guard.token.id, "accepted", 2)}
    token = ApiToken.objects.get(pk=issued.token.pk)
    assert (token.last_used_ip, token.secrets.get().last_used_ip) == ("192.0.2.7", "192.0.2.7")


@pytest.mark.parametrize(("of_its_environment", "told"), [(True, 1), (False, 0)])
def test_of_a_wrong_secret_only_its_own_environment_is_told_and_from_where_the_guard_asked(
    world, machine, guard, of_its_environment, told
):
    house = world.acme if of_its_environment else world.acme_staging
    issued = house.issue("admin")
    inactive(guard.ask(wrong_secret(issued), client_ip="203.0.113.66"))
    gathering.flush(at=timezone.now())
    events = AuditEvent.objects.filter(verb="apitoken.wrong_secret", target_id=issued.token.id)
    assert [event.ip for event in events] == ["127.0.0.1"] * told
    assert UsageHour.objects.filter(token_id=issued.token.id).count() == told


@pytest.mark.parametrize(("own", "told"), [(True, 1), (False, 0)])
def test_a_tenants_guard_leaves_no_trace_at_another_tenant(world, machine, own, told):
    headers = _callers(world, machine)["tenant"]
    house = world.acme if own else world.globex
    issued = house.issue("admin", name="Asked about")
    ApiToken.objects.filter(pk=issued.token.pk).update(disabled_at=timezone.now())
    inactive(ask(machine, {"token": issued.plaintext}, headers))
    gathering.flush(at=timezone.now())
    assert UsageHour.objects.filter(token_id=issued.token.id).count() == told
