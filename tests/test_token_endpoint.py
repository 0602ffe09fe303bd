"""`POST /oauth2/token` by the letter of RFC 6749: whole answers, for what is refused and for what is granted."""

from base64 import b64encode
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import quote, urlencode
from uuid import uuid4

import pytest
import time_machine
from django.utils import timezone

from apitokens import gathering, limiter
from apitokens.models import ApiToken, SigningKey, TokenType, UsageHour
from tenants.models import ApiIdentifier, Environment, Membership, Permission, RolePermission, Tenant
from tests.answers import TWO_WAYS, granted, refused
from tests.cast import ask_oauth, basic, bearer, claims_of, everything_stored, grant

FORM = "application/x-www-form-urlencoded"
GRANT = {"grant_type": "client_credentials"}
# The limiter counts what was refused, in a bounded number of rows.
REFUSALS = ("apitokens_refusalcount",)
CHALLENGE = 'Basic realm="token endpoint", charset="UTF-8"'


def ask(machine, form, headers=None, **how):
    return ask_oauth(machine, "token", form, headers, **how)


@pytest.fixture
def client(acme):
    """Acme's own client, which may do what a viewer may."""
    issued = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    return SimpleNamespace(
        issued=issued, id=issued.token.client_id, secret=issued.plaintext, house=acme,
        audience=ApiIdentifier.objects.get(environment=acme.environment, is_default=True).uri,
    )  # fmt: skip


def _basic_raw(text):
    return {"Authorization": f"Basic {b64encode(text.encode()).decode()}"}


UNKNOWN = "Unknown client or wrong secret."
NONE_SENT = "No client credentials: send them as HTTP Basic, in the body or as a client_assertion."
NO_SCHEME = "This scheme is not served: use HTTP Basic."
NOT_BASE64 = "The Basic credentials are not base64 of id:secret."
SECRET_FOR_ID = "This secret came where the client id belongs: Basic takes both, an access token goes as Bearer."
NO_COLON = "The Basic credentials have no colon between id and secret."
UNREADABLE = "A resource is an absolute URI without a fragment: "
NO_SUCH_RESOURCE = "This client gets no token for the resource "
# What differs from a request that is granted: (form, headers) of the client -> status, error, text, challenge.
WRONG = {
    "wrong secret in the body": (
        lambda c: ({**GRANT, "client_id": c.id, "client_secret": "wrong"}, {}),
        (400, "invalid_client", UNKNOWN),
    ),
    "wrong secret as Basic": (lambda c: (GRANT, basic(c.id, "wrong")), (401, "invalid_client", UNKNOWN, CHALLENGE)),
    "truncated secret": (lambda c: (GRANT, basic(c.id, c.secret[:-1])), (401, "invalid_client", UNKNOWN, CHALLENGE)),
    "extended secret": (lambda c: (GRANT, basic(c.id, c.secret + "0")), (401, "invalid_client", UNKNOWN, CHALLENGE)),
    "unknown client": (
        lambda c: ({**GRANT, "client_id": "nobody", "client_secret": c.secret}, {}),
        (400, "invalid_client", UNKNOWN),
    ),
    "unknown client as Basic": (
        lambda c: (GRANT, basic("nobody", c.secret)),
        (401, "invalid_client", UNKNOWN, CHALLENGE),
    ),
    "a null byte in the client id": (
        lambda c: ({**GRANT, "client_id": f"{c.id}\0", "client_secret": c.secret}, {}),
        (400, "invalid_client", UNKNOWN),
    ),
    "a null byte in Basic": (
        lambda c: (GRANT, basic(f"{c.id}\0", c.secret)),
        (401, "invalid_client", UNKNOWN, CHALLENGE),
    ),
    "no credentials": (
        lambda c: (GRANT, {}),
        (400, "invalid_client", NONE_SENT),
    ),
    "a client id and no secret": (
        lambda c: ({**GRANT, "client_id": c.id}, {}),
        (400, "invalid_client", NONE_SENT),
    ),
    "both ways at once": (
        lambda c: ({**GRANT, "client_id": c.id, "client_secret": c.secret}, basic(c.id, c.secret)),
        (400, "invalid_request", TWO_WAYS),
    ),
    "another client id in the body than in the header": (
        lambda c: ({**GRANT, "client_id": "other"}, basic(c.id, c.secret)),
        (400, "invalid_request", "The client_id in the body is not the one in the header."),
    ),
    "a Bearer token": (
        lambda c: (GRANT, bearer(c.secret)),
        (401, "invalid_client", NO_SCHEME, CHALLENGE),
    ),
    "Basic that is not base64": (
        lambda c: (GRANT, {"Authorization": "Basic %%%"}),
        (401, "invalid_client", NOT_BASE64, CHALLENGE),
    ),
    "Basic that is not UTF-8": (
        lambda c: (GRANT, {"Authorization": f"Basic {b64encode(bytes([255, 254])).decode()}"}),
        (401, "invalid_client", NOT_BASE64, CHALLENGE),
    ),
    "Basic without a colon": (
        lambda c: (GRANT, _basic_raw("nocolon")),
        (401, "invalid_client", NO_COLON, CHALLENGE),
    ),
    "a secret where the client id belongs": (
        lambda c: (GRANT, basic(c.secret, "")),
        (401, "invalid_client", SECRET_FOR_ID, CHALLENGE),
    ),
    "a scheme that nobody knows": (
        lambda c: (GRANT, {"Authorization": "Digest username=x"}),
        (401, "invalid_client", NO_SCHEME, CHALLENGE),
    ),
    "two schemes in one header": (
        lambda c: (GRANT, {"Authorization": f"{basic(c.id, c.secret)['Authorization']}, Bearer x"}),
        (401, "invalid_client", NOT_BASE64, CHALLENGE),
    ),
    "Basic and an assertion": (
        lambda c: ({**GRANT, "client_assertion": "a.b.c"}, basic(c.id, c.secret)),
        (400, "invalid_request", TWO_WAYS),
    ),
    "a secret and an assertion in the body": (
        lambda c: ({**GRANT, "client_id": c.id, "client_secret": c.secret, "client_assertion": "a.b.c"}, {}),
        (400, "invalid_request", TWO_WAYS),
    ),
    "a plus sign for a letter of the secret": (
        lambda c: (GRANT, _basic_raw(f"{c.id}:{c.secret[:-1]}+")),
        (401, "invalid_client", UNKNOWN, CHALLENGE),
    ),
    "a percent sign for a letter of the secret": (
        lambda c: (GRANT, _basic_raw(f"{c.id}:{c.secret[:-1]}%")),
        (401, "invalid_client", UNKNOWN, CHALLENGE),
    ),
    "no grant type": (
        lambda c: ({"scope": "reports:read"}, basic(c.id, c.secret)),
        (400, "invalid_request", "Request is missing grant type."),
    ),
    "an empty grant type": (
        lambda c: ({"grant_type": ""}, basic(c.id, c.secret)),
        (400, "invalid_request", "Request is missing grant type."),
    ),
    "a repeated grant type": (
        lambda c: ("grant_type=client_credentials&grant_type=client_credentials", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: grant_type."),
    ),
    "a repeated scope": (
        lambda c: ("grant_type=client_credentials&scope=a&scope=a", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: scope."),
    ),
    "a repeated client": (
        lambda c: (f"{urlencode(GRANT)}&client_id={c.id}&client_id={c.id}", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: client_id."),
    ),
    "a repeated tenant": (
        lambda c: (f"{urlencode(GRANT)}&tenant=a&tenant=b", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: tenant."),
    ),
    "an unknown parameter, repeated": (
        lambda c: (f"{urlencode(GRANT)}&colour=red&colour=red", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: colour."),
    ),
    "a parameter once with and once without a value": (
        lambda c: (f"{urlencode(GRANT)}&scope=&scope=reports:read", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: scope."),
    ),
    "a parameter whose name can't be said back": (
        lambda c: (f"{urlencode(GRANT)}&%22%C3%A9%0A=1&%22%C3%A9%0A=1", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: ?."),
    ),
    "a secret as the name of a parameter": (
        lambda c: (f"{urlencode(GRANT)}&{c.secret}=1&{c.secret}=1", basic(c.id, c.secret)),
        (400, "invalid_request", "Repeated parameter: [redacted]."),
    ),
    "more parameters than anybody needs": (
        lambda c: (urlencode(GRANT) + "".join(f"&p{n}=" for n in range(50)), basic(c.id, c.secret)),
        (400, "invalid_request", "The body is not a readable form."),
    ),
    "a body that is not UTF-8": (
        lambda c: (b"grant_type=\xff", basic(c.id, c.secret)),
        (400, "invalid_request", "The body is not a readable form."),
    ),
    "an unknown scope": (
        lambda c: ({**GRANT, "scope": "reports:read cakes:bake"}, basic(c.id, c.secret)),
        (400, "invalid_scope", "This client may not do: cakes:bake"),
    ),
    "more scope than it has": (
        lambda c: ({**GRANT, "scope": "reports:read reports:write"}, basic(c.id, c.secret)),
        (400, "invalid_scope", "This client may not do: reports:write"),
    ),
    "a scope in another case": (
        lambda c: ({**GRANT, "scope": "Reports:Read"}, basic(c.id, c.secret)),
        (400, "invalid_scope", "This client may not do: Reports:Read"),
    ),
    "a scope of spaces": (
        lambda c: ({**GRANT, "scope": "  "}, basic(c.id, c.secret)),
        (400, "invalid_scope", "The scope names nothing."),
    ),
    "an unknown resource": (
        lambda c: ({**GRANT, "resource": "https://elsewhere.example"}, basic(c.id, c.secret)),
        (400, "invalid_target", f"{NO_SUCH_RESOURCE}https://elsewhere.example"),
    ),
    "an unknown resource beside one of ours": (
        lambda c: (f"{urlencode(GRANT)}&resource={c.audience}&resource=https://elsewhere.example",
                   basic(c.id, c.secret)),
        (400, "invalid_target", f"{NO_SUCH_RESOURCE}https://elsewhere.example"),
    ),
    "a resource that differs in a slash": (
        lambda c: ({**GRANT, "resource": "https://api.example/"}, basic(c.id, c.secret)),
        (400, "invalid_target", f"{NO_SUCH_RESOURCE}https://api.example/"),
    ),
    "a resource that is no absolute URI": (
        lambda c: ({**GRANT, "resource": "/reports"}, basic(c.id, c.secret)),
        (400, "invalid_target", f"{UNREADABLE}/reports"),
    ),
    "a resource with a fragment": (
        lambda c: ({**GRANT, "resource": "https://api.example#reports"}, basic(c.id, c.secret)),
        (400, "invalid_target", f"{UNREADABLE}https://api.example#reports"),
    ),
    "a resource with what can't be said back": (
        lambda c: ({**GRANT, "resource": 'https://é.example/"\\'}, basic(c.id, c.secret)),
        (400, "invalid_target", f"{NO_SUCH_RESOURCE}https://?.example/?"),
    ),
    "a scope that is no scope-token": (
        lambda c: ({**GRANT, "scope": 'reports:read "quoted"'}, basic(c.id, c.secret)),
        (400, "invalid_scope", "This client may not do: "),
    ),
}  # fmt: skip
OTHER_GRANTS = ["password", "authorization_code", "refresh_token", "implicit", "CLIENT_CREDENTIALS", "x"]


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_a_request_is_answered_as_the_rfc_says(machine, client, name):
    make, answer = WRONG[name]
    form, headers = make(client)
    before = everything_stored(but=REFUSALS)
    refused(ask(machine, form, headers), *answer)
    assert everything_stored(but=REFUSALS) == before


@pytest.mark.parametrize("asked", OTHER_GRANTS)
def test_no_other_grant_is_supported(machine, client, asked):
    form = {"grant_type": asked, "username": "u", "password": "p", "code": "c", "refresh_token": "r"}
    answer = ask(machine, form, basic(client.id, client.secret))
    assert (answer.status_code, answer.json()) == (400, {"error": "unsupported_grant_type"})
    assert answer.headers["Cache-Control"] == "no-store"


SENT_RIGHT = {
    "as Basic": lambda c: (GRANT, basic(c.id, c.secret)),
    "as form-encoded Basic": lambda c: (GRANT, _basic_raw(f"{quote(c.id, safe='')}:{quote(c.secret, safe='')}")),
    "as percent-encoded Basic": lambda c: (GRANT, _basic_raw(f"{c.id.replace('_', '%5F')}:{c.secret}")),
    "with the scheme in lower case": lambda c: (
        GRANT,
        {"Authorization": basic(c.id, c.secret)["Authorization"].replace("Basic", "basic")},
    ),
    "in the body": lambda c: ({**GRANT, "client_id": c.id, "client_secret": c.secret}, {}),
    "as Basic, the same client id in the body": lambda c: ({**GRANT, "client_id": c.id}, basic(c.id, c.secret)),
    "as Basic whose client id is encoded to the last letter": lambda c: (
        GRANT,
        _basic_raw(f"{''.join(f'%{ord(letter):02x}' for letter in c.id)}:{c.secret}"),
    ),
    "with a space before the credentials": lambda c: (
        GRANT,
        {"Authorization": basic(c.id, c.secret)["Authorization"].replace(" ", "  ")},
    ),
    "with an empty client secret beside Basic": lambda c: ({**GRANT, "client_secret": ""}, basic(c.id, c.secret)),
    "with an empty resource": lambda c: ({**GRANT, "resource": ""}, basic(c.id, c.secret)),
    "with the same resource twice": lambda c: (
        f"{urlencode(GRANT)}&resource={c.audience}&resource={c.audience}",
        basic(c.id, c.secret),
    ),
    "with unknown parameters": lambda c: ({**GRANT, "audience": "x", "foo": "bar"}, basic(c.id, c.secret)),
    "with an empty scope": lambda c: ({**GRANT, "scope": ""}, basic(c.id, c.secret)),
    "with an empty tenant": lambda c: ({**GRANT, "tenant": ""}, basic(c.id, c.secret)),
}


@pytest.mark.parametrize("name", SENT_RIGHT)
def test_the_right_credentials_are_granted_a_jwt(machine, client, name):
    granted(grant(machine, client.issued))
    before = everything_stored()
    granted(ask(machine, *SENT_RIGHT[name](client)))
    assert everything_stored() == before


def test_a_charset_beside_the_content_type_changes_nothing(machine, client):
    granted(ask(machine, GRANT, basic(client.id, client.secret), content_type=f"{FORM}; charset=UTF-8"))


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain", ""])
def test_another_content_type_is_refused_whatever_the_body(machine, client, content_type):
    for body in ('{"grant_type": "client_credentials"}', urlencode(GRANT)):
        answer = ask(machine, body, basic(client.id, client.secret), content_type=content_type)
        text = f"Send the parameters as {FORM}, in the body; not as JSON or anything else."
        refused(answer, 400, "invalid_request", text)


def test_credentials_in_the_address_are_refused(machine, client):
    query = "?" + urlencode({**GRANT, "client_id": client.id, "client_secret": client.secret})
    text = "Parameters belong in the body, not in the address."
    refused(ask(machine, GRANT, query=query), 400, "invalid_request", text)
    refused(ask(machine, GRANT, basic(client.id, client.secret), query="?a=b"), 400, "invalid_request", text)


def test_a_body_over_64_kib_is_not_read(machine, client):
    form = {**GRANT, "padding": ""}
    padding = 64 * 1024 - len(urlencode(form))
    granted(ask(machine, urlencode(form) + "x" * padding, basic(client.id, client.secret)))
    answer = ask(machine, urlencode(form) + "x" * (padding + 1), basic(client.id, client.secret))
    refused(answer, 413, "invalid_request", "The body is over 64 KiB: nothing was read.")


@pytest.mark.parametrize("verb", ["GET", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"])
def test_only_post_is_served(machine, client, verb):
    answer = machine.generic(verb, "/oauth2/token", headers=basic(client.id, client.secret))
    assert (answer.status_code, answer.headers["Allow"], answer.headers["Cache-Control"]) == (405, "POST", "no-store")
    assert (answer.headers["Pragma"], answer.headers["Content-Type"]) == ("no-cache", "application/json")
    if verb != "HEAD":
        assert answer.json() == {"error": "invalid_request", "error_description": "Use POST."}


def test_strangers_and_what_is_gone_are_answered_alike(world, machine):
    """R8: unknown, wrong, deleted, other environment, other kind: the same bytes."""
    acme, staging = world.acme, world.acme_staging
    one, two, gone = (acme.issue("admin", name=name, kind="client_credentials") for name in ("One", "Two", "Gone"))
    foreign = staging.issue("admin", kind="client_credentials")
    opaque = acme.issue("admin", name="Opaque", kind="access_token")
    assert acme.api("admin", "DELETE", f"tokens/{gone.token.token_id}").status_code == 204
    pairs = [
        (one.token.client_id, two.plaintext),
        (one.token.client_id, foreign.plaintext),
        (foreign.token.client_id, one.plaintext),
        (gone.token.client_id, gone.plaintext),
        (opaque.token.client_id, opaque.plaintext),
        (one.token.token_id, one.plaintext),
        ("", one.plaintext),
        (one.token.client_id, one.plaintext.swapcase()),
        ("never", "never"),
    ]
    answers = [ask(machine, GRANT, basic(*pair)) for pair in pairs]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (401, b'{"error": "invalid_client", "error_description": "Unknown client or wrong secret."}')
    }
    granted(ask(machine, GRANT, basic(one.token.client_id, one.plaintext)))


def _set(model, key, **fields):
    return lambda token: model.objects.filter(pk=getattr(token, key)).update(**fields)


NOW = timezone.now()
REASONS = {
    "Its environment is suspended.": _set(Environment, "environment_id", suspended_at=NOW),
    "Its tenant is suspended.": _set(Tenant, "tenant_id", suspended_at=NOW),
    "Tokens of this owner and kind are switched off.": _set(TokenType, "token_type_id", is_enabled=False),
    "Its owner is suspended or has left.": _set(Membership, "membership_id", ended_at=NOW),
    "It is disabled.": _set(ApiToken, "pk", disabled_at=NOW),
    "It has expired.": _set(ApiToken, "pk", created_at=NOW - timedelta(days=1), expires_at=NOW),
    "Nothing it was granted is left.": lambda token: RolePermission.objects.all().delete(),
    "It may not be used from this address.": _set(ApiToken, "pk", ip_allowlist=["203.0.113.0/24"]),
}


@pytest.mark.parametrize("reason", REASONS)
def test_only_the_right_secret_learns_why_its_token_does_not_work(machine, acme, reason):
    issued = acme.issue("admin", owner="user", kind="client_credentials")
    token, other = issued.token, acme.issue("admin", name="Other", kind="client_credentials")
    in_body = {**GRANT, "client_id": token.client_id, "client_secret": issued.plaintext}
    assert ask(machine, in_body).status_code == 200
    REASONS[reason](token)
    refused(ask(machine, in_body), 400, "unauthorized_client", reason)
    refused(ask(machine, GRANT, basic(token.client_id, issued.plaintext)), 400, "unauthorized_client", reason)
    wrong = ask(machine, GRANT, basic(token.client_id, other.plaintext))
    refused(wrong, 401, "invalid_client", UNKNOWN, CHALLENGE)


def test_a_token_works_up_to_its_last_second(machine, acme):
    at = timezone.now().replace(microsecond=0)
    issued = acme.issue("admin", kind="client_credentials", expires_at=at + timedelta(minutes=10))
    with time_machine.travel(at + timedelta(minutes=9, seconds=59), tick=False):
        assert grant(machine, issued).json()["expires_in"] == 1
    with time_machine.travel(at + timedelta(minutes=10), tick=False):
        refused(grant(machine, issued), 400, "unauthorized_client", "It has expired.")


@pytest.mark.parametrize("kind", ["its own", "another's", "unknown", "of the other environment"])
def test_a_tenants_client_is_bound_to_its_own_tenant_alone(world, machine, kind):
    issued = world.acme.issue("admin", kind="client_credentials")
    named = {
        "its own": world.acme.tenant,
        "another's": world.globex.tenant,
        "unknown": SimpleNamespace(id=uuid4(), external_id="never"),
        "of the other environment": world.acme_staging.tenant,
    }[kind]
    for reference in (named.id, named.external_id):
        answer = grant(machine, issued, tenant=str(reference))
        if kind == "its own":
            granted(answer)
        else:
            refused(answer, 400, "invalid_request", "Unknown tenant.")


@pytest.mark.parametrize(
    ("kind", "accepted"),
    [("its own", True), ("another of its environment", True), ("of the other environment", False),
     ("suspended", False), ("deleted", False), ("unknown", False), ("a null byte", False)],
)  # fmt: skip
def test_an_environments_client_names_any_tenant_of_its_own(world, machine, kind, accepted):
    issued = world.acme.issue_for_environment(kind="client_credentials", permissions=["reports:read"], roles=[])
    named = {
        "another of its environment": world.globex.tenant,
        "of the other environment": world.acme_staging.tenant,
        "unknown": SimpleNamespace(id=uuid4(), external_id="never"),
        "a null byte": SimpleNamespace(id="\0", external_id=f"{world.acme.tenant.external_id}%00"),
    }.get(kind, world.acme.tenant)
    if kind in {"suspended", "deleted"}:
        Tenant.objects.filter(pk=named.id).update(**{f"{kind}_at": timezone.now()})
    for reference in (named.id, named.external_id):
        answer = grant(machine, issued, tenant=str(reference))
        if accepted:
            granted(answer, scope="reports:read")
        else:
            refused(answer, 400, "invalid_request", "Unknown tenant.")


def test_without_an_active_key_nothing_is_issued(machine, client):
    SigningKey.objects.update(state="retired", ended_at=timezone.now())
    answer = ask(machine, GRANT, basic(client.id, client.secret))
    assert (answer.status_code, answer.json()["error"]) == (503, "temporarily_unavailable")
    assert (answer.headers["Retry-After"], answer.headers["Cache-Control"]) == ("5", "no-store")
    assert (answer.headers["Pragma"], answer.headers["Content-Type"]) == ("no-cache", "application/json")
    SigningKey.objects.filter(environment=client.house.environment).update(state="active", ended_at=None)
    granted(ask(machine, GRANT, basic(client.id, client.secret)))


A, B, C = "https://a.example/v1", "urn:example:b", "https://c.example/?x=1"


@pytest.fixture
def apis(acme):
    """Three APIs of the environment beside its default one; how the `aud` of a grant is asked for."""
    ApiIdentifier.objects.bulk_create(ApiIdentifier(environment=acme.environment, uri=uri) for uri in (A, B, C))
    return SimpleNamespace(
        default=ApiIdentifier.objects.get(environment=acme.environment, is_default=True).uri,
        issuer=acme.environment.issuer,
    )


def ask_for(machine, issued, *resources):
    form = urlencode([*GRANT.items(), *(("resource", resource) for resource in resources)])
    return ask(machine, form, basic(issued.token.client_id, issued.plaintext))


def aud_of(answer):
    return claims_of(granted(answer))["aud"]


@pytest.mark.parametrize(
    ("asked", "aud"),
    [
        pytest.param([], "{default}", id="none: the default one"),
        pytest.param([A], A, id="one: a string"),
        pytest.param(["{default}"], "{default}", id="the default one"),
        pytest.param(["{issuer}"], "{issuer}", id="ourselves"),
        pytest.param([B, A], [B, A], id="several: an array, as they were asked for"),
        pytest.param([A, B, A], [A, B], id="one of them twice"),
        pytest.param([A, A], A, id="one twice: a string"),
        pytest.param([C], C, id="with a query"),
    ],
)
def test_resources_narrow_what_a_jwt_is_for(machine, acme, apis, asked, aud):
    issued = acme.issue("admin", kind="client_credentials")
    answer = ask_for(machine, issued, *(one.format(**vars(apis)) for one in asked))
    assert aud_of(answer) == (aud.format(**vars(apis)) if isinstance(aud, str) else aud)


def test_a_token_held_to_some_apis_is_granted_jwts_for_no_others(machine, acme, apis):
    issued = acme.issue("admin", kind="client_credentials", audiences=(A, B))
    assert aud_of(ask_for(machine, issued)) == [A, B]
    assert aud_of(ask_for(machine, issued, B)) == B
    for other in (C, apis.default, apis.issuer):
        refused(ask_for(machine, issued, other), 400, "invalid_target", f"{NO_SUCH_RESOURCE}{other}")
        refused(ask_for(machine, issued, A, other), 400, "invalid_target", f"{NO_SUCH_RESOURCE}{other}")


def test_a_resource_of_the_other_environment_is_as_unknown_as_any(world, machine):
    issued = world.acme.issue("admin", kind="client_credentials")
    for foreign in (world.staging.issuer, ApiIdentifier.objects.get(environment=world.staging).uri):
        refused(ask_for(machine, issued, foreign), 400, "invalid_target", f"{NO_SUCH_RESOURCE}{foreign}")


def test_what_is_granted_and_what_a_right_client_may_not_have_is_counted(machine, client):
    for asked in ({}, {"scope": "billing:manage"}, {"resource": "urn:x:y"}, {"tenant": "unknown"}, {"grant_type": "x"}):
        ask(machine, {**GRANT, **asked}, basic(client.id, client.secret))
    gathering.flush(at=timezone.now())
    counts = UsageHour.objects.filter(token_id=client.issued.token.id).values_list("scope_id", "outcome", "count")
    assert sorted(counts) == [(client.house.tenant.id, "granted", 1), (client.house.tenant.id, "rejected", 3)]


def test_too_many_wrong_credentials_are_429_and_the_right_one_passes_still(machine, client):
    wrong = [ask(machine, GRANT, basic(client.id, f"wrong {n}")) for n in range(limiter.PER_CLIENT + 1)]
    assert {answer.status_code for answer in wrong[:-1]} == {401}
    seconds = wrong[-1].headers["Retry-After"]
    assert 0 < int(seconds) <= limiter.WINDOW.total_seconds()
    text = f"Too many wrong credentials. Try again in {seconds} seconds."
    refused(wrong[-1], 429, "temporarily_unavailable", text)
    granted(ask(machine, GRANT, basic(client.id, client.secret)))


def test_what_fails_on_our_side_is_said_as_json_too(machine, client):
    machine.raise_request_exception = False
    SigningKey.objects.update(algorithm="RS256")
    answer = ask(machine, GRANT, basic(client.id, client.secret))
    refused(answer, 500, "server_error", "Something failed on our side; it is in our log.")


def test_an_address_below_that_is_none_is_said_as_json_too(machine, db):
    for path in ("/oauth2/token/", "/oauth2/authorize", "/oauth2/"):
        answer = machine.post(path, data=urlencode(GRANT), content_type=FORM)
        refused(answer, 404, "invalid_request", "There is no such thing here, or it is not yours.")


def test_a_jwt_that_nobody_would_read_is_not_issued_and_fewer_scopes_are(acme, machine):
    keys = [f"warehouse-of-{number}:{'x' * 100}" for number in range(80)]
    Permission.objects.bulk_create(Permission(environment=acme.environment, key=key) for key in keys)
    issued = acme.issue_for_environment(kind="client_credentials", roles=[], permissions=keys)
    whole = grant(machine, issued)
    assert (whole.status_code, whole.json()) == (
        400,
        {"error": "invalid_scope", "error_description": "The JWT would be too long: ask for fewer scopes."},
    )
    assert grant(machine, issued, scope=keys[0]).status_code == 200
