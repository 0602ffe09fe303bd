"""`POST /oauth2/revoke` by RFC 7009: whose token ends, from which request on, and that all else is 200 and nothing."""

import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
import time_machine
from django.core.management import call_command
from django.db import connections
from django.test import Client
from django.utils import timezone

from apitokens import limiter
from apitokens.models import ApiToken, RevokedJWT, Secret
from audit.models import AuditEvent
from config import housekeeping
from tenants.models import Environment, Tenant
from tests.answers import INACTIVE, refused
from tests.cast import GUARD, ask_oauth, basic, bearer, claims_of, everything_stored, guarding, jwt_of, wrong_secret

FORM = "application/x-www-form-urlencoded"
BASIC = 'Basic realm="token endpoint", charset="UTF-8"'
NO_CREDENTIALS = "No client credentials: send them as HTTP Basic, in the body or as a client_assertion."
UNKNOWN = "Unknown client or wrong secret."
NOW = timezone.now()


def ask(machine, form, headers=None, **how):
    return ask_oauth(machine, "revoke", form, headers, **how)


@pytest.fixture
def client(acme):
    return acme.issue("admin", kind="client_credentials", name="Client", roles=["viewer"])


@pytest.fixture
def opaque(acme):
    return acme.issue("admin", name="Opaque", roles=["viewer"])


def of(issued):
    return basic(issued.token.client_id, issued.plaintext)


def works(machine, token):
    return machine.get("/api/v1/token/self", headers=bearer(token)).status_code == 200


def done(answer):
    """The same bytes, whether or not there was anything to end."""
    assert (answer.status_code, answer.content) == (200, b"{}")
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.headers["Cache-Control"], answer.headers["Pragma"]) == ("no-store", "no-cache")


@pytest.mark.parametrize("way", ["basic", "body"])
def test_a_client_ends_one_of_its_jwts_and_no_other(acme, machine, client, way):
    guard = guarding(machine, acme.issue_for_environment(**GUARD))
    ended, other = jwt_of(machine, client), jwt_of(machine, client)
    assert works(machine, ended)
    in_body = {"client_id": client.token.client_id, "client_secret": client.plaintext}
    form, headers = ({}, of(client)) if way == "basic" else (in_body, {})
    done(ask(machine, {"token": ended, **form}, headers))
    assert not works(machine, ended)
    assert guard.ask(ended).content == INACTIVE
    assert works(machine, other)
    assert guard.ask(other).json()["active"] is True
    assert works(machine, jwt_of(machine, client))


def test_it_is_one_row_until_it_would_have_expired_and_one_event(acme, machine, client):
    text = jwt_of(machine, client)
    claims = claims_of(text)
    for _ in range(3):
        done(ask(machine, {"token": text}, of(client)))
    row = RevokedJWT.objects.get()
    assert (row.environment, row.jti) == (acme.environment, claims["jti"])
    assert row.expires_at == datetime.fromtimestamp(claims["exp"], UTC)
    event = AuditEvent.objects.get(verb="apitoken.jwt_revoked")
    assert (event.actor_kind, event.actor_id, event.target_id) == ("token", client.token.id, client.token.id)
    assert (event.environment_id, event.tenant_id) == (acme.environment.id, acme.tenant.id)
    assert (event.before, event.after) == (None, {"jti": claims["jti"], "expires_at": row.expires_at.isoformat()})
    assert (event.ip, event.outcome) == ("127.0.0.1", "done")
    assert event.request_id


def test_a_jwt_for_another_tenant_or_api_of_the_same_client_is_its_own_too(acme, machine):
    issued = acme.issue_for_environment(kind="client_credentials", permissions=["reports:read"], roles=[])
    text = jwt_of(machine, issued, tenant=str(acme.tenant.id))
    assert works(machine, text)
    done(ask(machine, {"token": text}, of(issued)))
    assert not works(machine, text)


def test_housekeeping_forgets_it_once_it_is_expired_everywhere(machine, client):
    text = jwt_of(machine, client)
    done(ask(machine, {"token": text}, of(client)))
    end = RevokedJWT.objects.get().expires_at
    for at, left in ((end, 1), (end + housekeeping.CLOCKS_DIFFER, 1), (end + housekeeping.CLOCKS_DIFFER * 2, 0)):
        with time_machine.travel(at, tick=False):
            call_command("worker", once=True)
        assert RevokedJWT.objects.count() == left


def test_only_its_own_clients_credentials_end_a_jwt(world, machine, client):
    """To whoever asks for a stranger's token it is unknown (R8): 200, and nothing is done."""
    text = jwt_of(machine, client)
    others = [
        world.acme.issue("admin", kind="client_credentials", name="Other"),
        world.globex.issue("admin", kind="client_credentials"),
        world.acme_staging.issue("admin", kind="client_credentials"),
        world.acme.issue_for_environment(kind="client_credentials"),
    ]
    before = everything_stored()
    for other in others:
        done(ask(machine, {"token": text}, of(other)))
    assert everything_stored() == before
    assert works(machine, text)


def _expired(machine, issued):
    with time_machine.travel(timezone.now() - timedelta(hours=2), tick=False):
        ApiToken.objects.filter(pk=issued.token.pk).update(created_at=timezone.now())
        return jwt_of(machine, issued)


def _tampered(machine, issued):
    head, body, signature = jwt_of(machine, issued).split(".")
    return f"{head}.{body}.{signature[:-4]}AAAA"


NOTHING_TO_DO = {
    "nonsense": lambda machine, issued: "nonsense",
    "a null byte": lambda machine, issued: "\0",
    "no JWT": lambda machine, issued: "a.b.c",
    "expired": _expired,
    "tampered with": _tampered,
    "its own secret": lambda machine, issued: issued.plaintext,
    "its own id": lambda machine, issued: issued.token.client_id,
    "too long": lambda machine, issued: f"{jwt_of(machine, issued)}{'x' * 8192}",
}


@pytest.mark.parametrize("name", NOTHING_TO_DO)
def test_what_is_no_live_token_of_the_client_is_200_and_nothing(machine, client, name):
    token = NOTHING_TO_DO[name](machine, client)
    before = everything_stored()
    done(ask(machine, {"token": token}, of(client)))
    assert everything_stored() == before


@pytest.mark.parametrize("hint", ["access_token", "refresh_token", "cake", ""])
def test_a_hint_that_is_wrong_changes_nothing(machine, client, opaque, hint):
    text = jwt_of(machine, client)
    done(ask(machine, {"token": text, "token_type_hint": hint}, of(client)))
    done(ask(machine, {"token": opaque.plaintext, "token_type_hint": hint}))
    assert not works(machine, text)
    assert not works(machine, opaque.plaintext)


POSSESSION = {
    "alone": lambda issued: ({}, {}),
    "with its client id": lambda issued: ({"client_id": issued.token.client_id}, {}),
    "as Bearer": lambda issued: ({}, bearer(issued.plaintext)),
    "as bearer, with its client id": lambda issued: (
        {"client_id": issued.token.client_id},
        {"Authorization": f"bearer {issued.plaintext}"},
    ),
}


@pytest.mark.parametrize("owner", ["environment", "tenant", "user"])
@pytest.mark.parametrize("way", POSSESSION)
def test_who_has_an_access_token_may_end_it(acme, machine, way, owner):
    if owner == "environment":
        issued = acme.issue_for_environment(permissions=["reports:read"], roles=[])
    else:
        issued = acme.issue("member", owner=owner)
    bystander = acme.issue("admin", name="Bystander")
    form, headers = POSSESSION[way](issued)
    for _ in range(2):
        done(ask(machine, {"token": issued.plaintext, **form}, headers))
        assert not works(machine, issued.plaintext)
    assert not ApiToken.objects.filter(pk=issued.token.pk).exists()
    assert not Secret.objects.filter(token=issued.token.pk).exists()
    assert works(machine, bystander.plaintext)


def test_its_end_is_an_event_with_a_tombstone(acme, machine, opaque):
    done(ask(machine, {"token": opaque.plaintext}))
    event = AuditEvent.objects.get(verb="apitoken.deleted")
    assert (event.actor_kind, event.actor_id, event.target_id) == ("token", opaque.token.id, opaque.token.id)
    assert (event.environment_id, event.tenant_id) == (acme.environment.id, acme.tenant.id)
    assert event.before == {
        "token_id": opaque.token.token_id,
        "name": "Opaque",
        "owner": "tenant",
        "last_four": opaque.plaintext[-4:],
        "creator": str(acme.people["admin"].user_id),
    }
    assert (event.ip, event.outcome) == ("127.0.0.1", "done")
    assert event.request_id


def _set(model, key, **fields):
    return lambda token: model.objects.filter(pk=getattr(token, key)).update(**fields)


WHEREVER = {
    "disabled": _set(ApiToken, "pk", disabled_at=NOW),
    "expired": _set(ApiToken, "pk", created_at=NOW - timedelta(days=1), expires_at=NOW),
    "not yet": _set(ApiToken, "pk", not_before=NOW + timedelta(hours=1)),
    "from elsewhere": _set(ApiToken, "pk", ip_allowlist=["203.0.113.0/24"]),
    "for another API": _set(ApiToken, "pk", audiences=["https://other.example"]),
    "tenant suspended": _set(Tenant, "tenant_id", suspended_at=NOW),
    "tenant deleted": _set(Tenant, "tenant_id", deleted_at=NOW),
    "environment suspended": _set(Environment, "environment_id", suspended_at=NOW),
    "environment deleted": _set(Environment, "environment_id", deleted_at=NOW),
}


@pytest.mark.parametrize("state", WHEREVER)
def test_a_token_that_does_not_work_now_is_ended_too_lest_it_work_again(machine, opaque, state):
    WHEREVER[state](opaque.token)
    done(ask(machine, {"token": opaque.plaintext}))
    assert not ApiToken.objects.filter(pk=opaque.token.pk).exists()


def test_a_request_that_names_another_client_ends_nothing(acme, machine, client, opaque):
    """RFC 7009 section 2.1: it was not issued to the client that makes the request."""
    before = everything_stored()
    done(ask(machine, {"token": opaque.plaintext, "client_id": client.token.client_id}))
    done(ask(machine, {"token": opaque.plaintext, "client_id": "nobody"}))
    done(ask(machine, {"token": opaque.plaintext}, of(client)))
    assert everything_stored() == before
    assert works(machine, opaque.plaintext)


def _mistyped(text):
    return text[:-7] + ("0" if text[-7] != "0" else "1") + text[-6:]


def test_what_nobody_has_is_200_and_nothing(world, machine, opaque):
    gone = world.acme.issue("admin", name="Gone")
    assert world.acme.api("admin", "DELETE", f"tokens/{gone.token.token_id}").status_code == 204
    foreign = world.acme_staging.issue("admin").plaintext
    other_prefix = foreign.split("_at_")[0] + "_at_" + opaque.plaintext.split("_at_")[1]
    counted = ("apitokens_refusalcount",)
    before = everything_stored(but=counted)
    for token in (
        "nonsense",
        gone.plaintext,
        wrong_secret(opaque),
        _mistyped(opaque.plaintext),
        opaque.plaintext[:-1],
        other_prefix,
    ):
        done(ask(machine, {"token": token}))
    assert everything_stored(but=counted) == before
    assert works(machine, opaque.plaintext)


def test_guesses_are_limited_and_who_has_the_token_never_is(acme, machine, opaque, monkeypatch):
    monkeypatch.setattr(limiter, "PER_CLIENT", 3)
    guess = wrong_secret(opaque)
    with time_machine.travel(NOW, tick=False):
        for _ in range(limiter.PER_CLIENT):
            done(ask(machine, {"token": guess}))
        limited = ask(machine, {"token": guess})
        refused(limited, 429, "temporarily_unavailable", "Too many wrong credentials. Try again in 900 seconds.")
        assert limited.headers["Retry-After"] == "900"
        assert ask(machine, {"token": "nonsense"}).status_code == 200
        done(ask(machine, {"token": opaque.plaintext}))
    assert not works(machine, opaque.plaintext)


# What differs from a client that is heard: (form, headers) of client and JWT -> status, error, text, challenge.
CLIENTS = {
    "a wrong secret": (
        lambda c: ({}, basic(c.token.client_id, "wrong")),
        (401, "invalid_client", UNKNOWN, BASIC),
    ),
    "a wrong secret in the body": (
        lambda c: ({"client_id": c.token.client_id, "client_secret": "wrong"}, {}),
        (400, "invalid_client", UNKNOWN),
    ),
    "an unknown client": (lambda c: ({}, basic("nobody", c.plaintext)), (401, "invalid_client", UNKNOWN, BASIC)),
    "no credentials": (lambda c: ({}, {}), (400, "invalid_client", NO_CREDENTIALS)),
    "a client id alone": (
        lambda c: ({"client_id": c.token.client_id}, {}),
        (400, "invalid_client", NO_CREDENTIALS),
    ),
    "the JWT itself": (
        lambda c: ({}, bearer(jwt_of(Client(), c))),
        (401, "invalid_client", "This scheme is not served: use HTTP Basic.", BASIC),
    ),
    "two ways at once": (
        lambda c: ({"client_id": c.token.client_id, "client_secret": c.plaintext}, of(c)),
        (400, "invalid_request", "Credentials in two ways at once: send them in one."),
    ),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_a_jwt_is_ended_by_its_client_alone(machine, client, name):
    make, expected = CLIENTS[name]
    text = jwt_of(machine, client)
    form, headers = make(client)
    counted = ("apitokens_refusalcount",)
    before = everything_stored(but=counted)
    refused(ask(machine, {"token": text, **form}, headers), *expected)
    assert everything_stored(but=counted) == before
    assert works(machine, text)


def test_wrong_credentials_are_refused_even_beside_a_right_access_token(machine, client, opaque):
    wrong = basic(client.token.client_id, "wrong")
    refused(ask(machine, {"token": opaque.plaintext}, wrong), 401, "invalid_client", UNKNOWN, BASIC)
    another = bearer(wrong_secret(opaque))
    answer = ask(machine, {"token": opaque.plaintext}, another)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    in_body = {"client_id": client.token.client_id, "client_secret": "wrong"}
    refused(ask(machine, {"token": opaque.plaintext, **in_body}), 400, "invalid_client", UNKNOWN)
    both = "Credentials in two ways at once: send them in one."
    answer = ask(machine, {"token": opaque.plaintext, **in_body}, bearer(opaque.plaintext))
    refused(answer, 400, "invalid_request", both)
    assert works(machine, opaque.plaintext)


def test_a_client_that_does_not_work_is_told_why(machine, client):
    text = jwt_of(machine, client)
    ApiToken.objects.filter(pk=client.token.pk).update(disabled_at=NOW)
    refused(ask(machine, {"token": text}, of(client)), 400, "unauthorized_client", "It is disabled.")


SHAPES = {
    "no token": (lambda token: ({"token_type_hint": "access_token"},), "Missing parameter: token."),
    "an empty token": (lambda token: ({"token": ""},), "Missing parameter: token."),
    "two tokens": (lambda token: (f"token={token}&token={token}",), "Repeated parameter: token."),
    "a token in the address": (
        lambda token: ({"token": token}, f"?token={token}"),
        "Parameters belong in the body, not in the address.",
    ),
    "no UTF-8": (lambda token: (b"token=\xff",), "The body is not a readable form."),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_request_of_another_shape_is_refused(machine, client, opaque, name):
    make, text = SHAPES[name]
    form, *query = make(opaque.plaintext)
    before = everything_stored()
    for headers in ({}, of(client)):
        refused(ask(machine, form, headers, query="".join(query)), 400, "invalid_request", text)
    assert everything_stored() == before


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/plain", ""])
def test_only_a_form_is_read(machine, opaque, content_type):
    text = f"Send the parameters as {FORM}, in the body; not as JSON or anything else."
    answer = ask(machine, urlencode({"token": opaque.plaintext}), content_type=content_type)
    refused(answer, 400, "invalid_request", text)
    assert works(machine, opaque.plaintext)


@pytest.mark.parametrize("verb", ["GET", "OPTIONS", "HEAD", "PUT", "PATCH", "DELETE"])
def test_only_post_is_served(machine, client, verb):
    answer = machine.generic(verb, "/oauth2/revoke", headers=of(client))
    assert (answer.status_code, answer.headers["Allow"], answer.headers["Cache-Control"]) == (405, "POST", "no-store")
    if verb != "HEAD":
        assert answer.json() == {"error": "invalid_request", "error_description": "Use POST."}


def test_asking_whether_a_jwt_was_revoked_is_no_query_of_its_own(machine, client, django_assert_num_queries):
    text = jwt_of(machine, client)
    with django_assert_num_queries(2):
        assert works(machine, text)


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["client_credentials", "access_token"])
def test_many_who_end_the_same_token_at_once_end_it_once(acme, machine, kind):
    issued = acme.issue("admin", kind=kind)
    form, headers = {"token": issued.plaintext}, {}
    if kind == "client_credentials":
        form, headers = {"token": jwt_of(machine, issued)}, of(issued)
    together, answers = threading.Barrier(6), []

    def end():
        try:
            together.wait()
            answers.append(ask(Client(), form, headers))
        finally:
            connections.close_all()

    threads = [threading.Thread(target=end) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(threads)
    for answer in answers:
        done(answer)
    verb = "apitoken.jwt_revoked" if kind == "client_credentials" else "apitoken.deleted"
    assert AuditEvent.objects.filter(verb=verb).count() == 1
