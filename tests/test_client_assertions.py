"""`private_key_jwt` (RFC 7523): a client that proves itself by its own key, and all that is no such proof."""

import base64
import hashlib
import hmac
import json
import socket
from datetime import timedelta
from types import SimpleNamespace
from urllib.parse import urlencode
from uuid import uuid4

import jwt
import pytest
import time_machine
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from apitokens import gathering, principals, rotation
from apitokens.models import ApiToken, Secret, UsageHour, UsedAssertion
from audit.models import AuditEvent
from config import housekeeping
from tests.answers import TWO_WAYS, granted, refused
from tests.cast import ask_oauth, basic, claims_of, everything_stored, jwt_of, pem
from tests.racing import Call

GRANT = {"grant_type": "client_credentials"}
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
WRONG = (
    "Unknown client or wrong assertion: signed with a key of the client, iss and sub its client_id, aud the issuer, "
    "at most five minutes old, not expired, jti never used before."
)
ENDPOINT = f"{settings.ORIGIN}/oauth2/token"
PAIRS = {
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
NEXT = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())
REFUSALS = ("apitokens_refusalcount",)


def register(house, algorithm="ES256", **asked):
    """A client with a public key and no secret."""
    issued = house.issue("admin", kind="client_credentials", public_key=pem(PAIRS[algorithm]), **asked)
    return SimpleNamespace(
        token=issued.token, plaintext=issued.plaintext, id=issued.token.client_id, algorithm=algorithm,
        issuer=house.environment.issuer, house=house,
    )  # fmt: skip


def ask(machine, form, headers=None, **how):
    return ask_oauth(machine, "token", form, headers, **how)


@pytest.fixture
def client(acme):
    return register(acme)


def claims_for(client, **changed):
    now = int(timezone.now().timestamp())
    claims = {
        "iss": client.id,
        "sub": client.id,
        "aud": client.issuer,
        "iat": now,
        "exp": now + 60,
        "jti": str(uuid4()),
    }
    return {name: value for name, value in {**claims, **changed}.items() if value is not ...}


def assertion(client, *, key=None, algorithm=None, header=None, **changed):
    """Signed by the client; `...` leaves a claim out."""
    algorithm = algorithm or client.algorithm
    return jwt.encode(claims_for(client, **changed), key or PAIRS[algorithm], algorithm=algorithm, headers=header)


def by_hand(header, claims, signature=b"", payload=None):
    """What no library would make."""
    parts = [json.dumps(header).encode(), payload or json.dumps(claims).encode()]
    text = ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)
    signature = signature(text.encode()) if callable(signature) else signature
    return f"{text}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


def signed_by_hand(client, payload, **header):
    """With the client's key, over bytes that are no claims that a library would write."""
    es256 = jwt.get_algorithm_by_name("ES256")
    return by_hand(
        {"alg": "ES256", **header}, None, lambda text: es256.sign(text, PAIRS["ES256"]), payload=payload.encode()
    )


def form(text, **more):
    return {**GRANT, "client_assertion_type": JWT_BEARER, "client_assertion": text, **more}


def thumbprint(client):
    return Secret.objects.get(token=client.token, slot=1).public_key["kid"]


RIGHT = {
    "for the issuer": {},
    "for the token endpoint": {"aud": ENDPOINT},
    "for the issuer in an array": {"aud": ["https://elsewhere.example", "{issuer}"]},
    "for five minutes": {"exp": 300},
    "for a second": {"exp": 1},
    "without iat": {"iat": ...},
    "by a clock that is a little ahead": {"iat": 20, "nbf": 20},
    "with times that are no whole seconds": {"exp": 59.5},
    "for an hour, as some libraries sign": {"exp": 3600},
    "for an hour, five minutes ago": {"iat": -299, "exp": 3301},
    "with a claim of its own": {"colour": "red"},
}


@pytest.mark.parametrize("name", RIGHT)
def test_an_assertion_is_accepted(machine, client, name):
    at = timezone.now().replace(microsecond=0)
    changed = {**RIGHT[name]}
    for claim in {"exp", "iat", "nbf"} & changed.keys():
        changed[claim] = changed[claim] if changed[claim] is ... else at.timestamp() + changed[claim]
    if isinstance(changed.get("aud"), list):
        changed["aud"] = [one.format(issuer=client.issuer) for one in changed["aud"]]
    with time_machine.travel(at, tick=False):
        granted(ask(machine, form(assertion(client, **changed))))


@pytest.mark.parametrize("algorithm", PAIRS)
def test_each_kind_of_key_signs_with_its_algorithm_and_no_other(acme, machine, algorithm):
    client = register(acme, algorithm)
    granted(ask(machine, form(assertion(client))))
    for other in PAIRS.keys() - {algorithm}:
        refused(ask(machine, form(assertion(client, algorithm=other))), 400, "invalid_client", WRONG)


def test_eddsa_goes_by_its_newer_name_as_well(acme, machine):
    client = register(acme, "EdDSA")
    eddsa = jwt.get_algorithm_by_name("EdDSA")
    header = {"alg": "Ed25519", "typ": "JWT"}
    granted(ask(machine, form(by_hand(header, claims_for(client), lambda text: eddsa.sign(text, PAIRS["EdDSA"])))))
    unsigned = by_hand(header, claims_for(client), lambda text: eddsa.sign(text, ed25519.Ed25519PrivateKey.generate()))
    refused(ask(machine, form(unsigned)), 400, "invalid_client", WRONG)


def test_an_rsa_key_is_for_rs256_alone(acme, machine):
    text = assertion(register(acme, "RS256"), key=PAIRS["RS256"], algorithm="PS256")
    refused(ask(machine, form(text)), 400, "invalid_client", WRONG)


@pytest.mark.parametrize("kid", [None, "the key's thumbprint", "a name of the client's own"])
@pytest.mark.parametrize(
    "typ", ["JWT", "jwt", "client-authentication+jwt", "application/client-authentication+jwt", None]
)
def test_kid_and_type_are_as_clients_write_them(machine, client, kid, typ):
    kid = thumbprint(client) if kid == "the key's thumbprint" else kid
    header = {"typ": typ, **({} if kid is None else {"kid": kid})}
    granted(ask(machine, form(assertion(client, header=header))))


def test_the_client_id_may_be_sent_beside_it(machine, client):
    granted(ask(machine, form(assertion(client), client_id=client.id)))


def test_a_client_with_a_public_key_has_no_secret(machine, client):
    assert client.plaintext is None
    assert list(Secret.objects.filter(token=client.token).values_list("digest", "pepper_id", "last_four")) == [
        (None, None, "")
    ]
    wrong = (401, "invalid_client", "Unknown client or wrong secret.", 'Basic realm="token endpoint", charset="UTF-8"')
    secret = client.house.issue("admin", name="Other", kind="client_credentials").plaintext
    refused(ask(machine, GRANT, basic(client.id, secret)), *wrong)


def test_scope_resource_and_tenant_are_asked_for_as_with_a_secret(machine, client):
    more = {"scope": "reports:read", "resource": client.issuer, "tenant": str(client.house.tenant.id)}
    access = granted(ask(machine, form(assertion(client), **more)), scope="reports:read")
    claims = claims_of(access)
    assert (claims["aud"], claims["client_id"]) == (client.issuer, client.id)


def _hs256(client):
    secret = pem(PAIRS["ES256"]).encode()
    return by_hand({"alg": "HS256"}, claims_for(client), lambda text: hmac.digest(secret, text, hashlib.sha256))


def _with_own_key(client, **header):
    return assertion(client, key=STRANGER, header={**header, "kid": "x"})


def _own_jwk():
    return jwt.algorithms.ECAlgorithm.to_jwk(STRANGER.public_key(), as_dict=True)


def _payload(client, **raw):
    """JSON that no library writes."""
    claims = json.dumps(claims_for(client))[:-1]
    return claims + "".join(f', "{name}": {value}' for name, value in raw.items()) + "}"


def _now():
    return int(timezone.now().timestamp())


# What differs from an assertion that is accepted.
REFUSED = {
    "signed by a stranger": lambda c: assertion(c, key=STRANGER),
    "alg none": lambda c: by_hand({"alg": "none"}, claims_for(c)),
    "no alg": lambda c: by_hand({"typ": "JWT"}, claims_for(c)),
    "HS256 with the public key": _hs256,
    "another algorithm in its header": lambda c: by_hand({"alg": "RS256"}, claims_for(c), b"x" * 256),
    "no signature": lambda c: assertion(c).rpartition(".")[0] + ".",
    "two parts": lambda c: assertion(c).rpartition(".")[0],
    "tampered": lambda c: ".".join(
        [assertion(c).split(".")[0], assertion(c).split(".")[1], assertion(c, jti="x").split(".")[2]]
    ),
    "jku": lambda c: _with_own_key(c, jku="https://attacker.example/jwks.json"),
    "x5u": lambda c: _with_own_key(c, x5u="https://attacker.example/cert.pem"),
    "jwk": lambda c: _with_own_key(c, jwk=_own_jwk()),
    "x5c": lambda c: _with_own_key(c, x5c=["MIIB"]),
    "a critical header that nobody knows": lambda c: signed_by_hand(c, _payload(c), crit=["colour"], colour="red"),
    "detached payload": lambda c: by_hand({"alg": "ES256", "b64": False, "crit": ["b64"]}, {}, b"x" * 64),
    "typ of an access token": lambda c: assertion(c, header={"typ": "at+jwt"}),
    "typ of a proof of possession": lambda c: assertion(c, header={"typ": "dpop+jwt"}),
    "typ that is a number": lambda c: signed_by_hand(c, _payload(c), typ=1),
    "no iss": lambda c: assertion(c, iss=...),
    "another iss": lambda c: assertion(c, iss="somebody"),
    "no sub": lambda c: assertion(c, sub=...),
    "another sub": lambda c: assertion(c, sub="somebody"),
    "iss and sub of nobody": lambda c: assertion(c, iss="nobody", sub="nobody"),
    "a null byte in sub": lambda c: assertion(c, iss=f"{c.id}\0", sub=f"{c.id}\0"),
    "half a character in sub": lambda c: signed_by_hand(c, _payload(c, iss='"\\ud800"', sub='"\\ud800"')),
    "sub that is a list": lambda c: signed_by_hand(c, _payload(c, iss="[]", sub="[]")),
    "no aud": lambda c: assertion(c, aud=...),
    "aud of somebody else": lambda c: assertion(c, aud="https://elsewhere.example"),
    "aud of the origin alone": lambda c: assertion(c, aud=settings.ORIGIN),
    "aud with a slash too many": lambda c: assertion(c, aud=f"{c.issuer}/"),
    "aud that is nothing": lambda c: assertion(c, aud=[]),
    "aud that is an object": lambda c: signed_by_hand(c, _payload(c, aud='{"a": 1}')),
    "no exp": lambda c: assertion(c, exp=...),
    "exp now": lambda c: assertion(c, exp=_now()),
    "exp more than five minutes ahead, and no iat": lambda c: assertion(c, exp=_now() + 302, iat=...),
    "exp an hour ahead, iat more than five minutes ago": lambda c: assertion(c, exp=_now() + 3600, iat=_now() - 300),
    "iat more than five minutes ago": lambda c: assertion(c, iat=_now() - 300),
    "exp as text": lambda c: signed_by_hand(c, _payload(c, exp=f'"{_now() + 60}"')),
    "exp as true": lambda c: signed_by_hand(c, _payload(c, exp="true")),
    "exp as NaN": lambda c: signed_by_hand(c, _payload(c, exp="NaN")),
    "exp without end": lambda c: signed_by_hand(c, _payload(c, exp="1e400")),
    "exp beyond all numbers": lambda c: signed_by_hand(c, _payload(c, exp="1" + "0" * 400)),
    "iat before all numbers": lambda c: signed_by_hand(c, _payload(c, iat="-1" + "0" * 400)),
    "iat well ahead": lambda c: assertion(c, iat=_now() + 60),
    "iat as text": lambda c: signed_by_hand(c, _payload(c, iat='"now"')),
    "not yet valid": lambda c: assertion(c, nbf=_now() + 60),
    "no jti": lambda c: assertion(c, jti=...),
    "an empty jti": lambda c: assertion(c, jti=""),
    "jti that is a number": lambda c: signed_by_hand(c, _payload(c, jti="7")),
    "claims that are a list": lambda c: signed_by_hand(c, "[]"),
    "claims that are no JSON": lambda c: signed_by_hand(c, "{"),
    "endless nesting": lambda c: signed_by_hand(c, "[" * 5000),
    "more than 8 KiB": lambda c: assertion(c, padding="x" * 8192),
    "not a JWT": lambda c: "nonsense",
    "é": lambda c: "é.é.é",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_proof_is_answered_as_an_unknown_client_is(machine, client, name):
    text = REFUSED[name](client)
    before = everything_stored(but=REFUSALS)
    refused(ask(machine, form(text)), 400, "invalid_client", WRONG)
    assert everything_stored(but=REFUSALS) == before


def test_strangers_and_what_is_gone_are_answered_alike(world, machine):
    """R8: unknown, deleted, of the other environment, without a key: the same bytes."""
    client, foreign = register(world.acme), register(world.acme_staging)
    gone, secretive = register(world.acme, name="Gone"), world.acme.issue("admin", name="B", kind="client_credentials")
    opaque = world.acme.issue("admin", name="Opaque")
    assert world.acme.api("admin", "DELETE", f"tokens/{gone.token.token_id}").status_code == 204
    of_secretive = SimpleNamespace(id=secretive.token.client_id, issuer=client.issuer, algorithm="ES256")
    of_opaque = SimpleNamespace(id=opaque.token.client_id, issuer=client.issuer, algorithm="ES256")
    of_nobody = SimpleNamespace(id="nobody", issuer=client.issuer, algorithm="ES256")
    access = ask(machine, form(assertion(client))).json()["access_token"]
    texts = [
        assertion(gone), assertion(of_secretive), assertion(of_opaque), assertion(of_nobody), access,
        assertion(client, aud=foreign.issuer), assertion(client, key=STRANGER),
    ]  # fmt: skip
    forms = [form(text) for text in texts] + [form(assertion(client), client_id=foreign.id)]
    answers = [ask(machine, sent) for sent in forms]
    assert {(answer.status_code, answer.content) for answer in answers} == {
        (400, json.dumps({"error": "invalid_client", "error_description": WRONG}).encode())
    }
    granted(ask(machine, form(assertion(client))))


def test_a_known_and_an_unknown_client_ask_the_database_the_same(machine, client):
    nobody = SimpleNamespace(id="nobody", issuer=client.issuer, algorithm="ES256")
    counted = []
    for text in (assertion(client, key=STRANGER), assertion(nobody)):
        with CaptureQueriesContext(
            connection,
        ) as queries:
            refused(ask(machine, form(text)), 400, "invalid_client", WRONG)
        counted.append([query["sql"].split()[0] for query in queries])
    assert counted[0] == counted[1]


@pytest.mark.parametrize("algorithm", PAIRS)
def test_as_much_is_verified_whatever_keys_a_client_has(acme, machine, monkeypatch, algorithm):
    """R8: by the algorithm of the header, for nobody, a client without a key, with one of each kind, and with two."""
    done = []

    def counted(kind, name):
        real = getattr(kind, name)

        def wrapped(self, *given, **named):
            done.append(f"{kind.__name__}.{name}")
            return real(self, *given, **named)

        monkeypatch.setattr(kind, name, wrapped)

    of = {each: register(acme, each, name=each) for each in PAIRS}
    two = register(acme, algorithm, name="Two")
    rotate(two, overlap=3600)
    secretive = acme.issue("admin", name="Secretive", kind="client_credentials").token
    strangers = {
        "ES256": STRANGER,
        "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
        "EdDSA": ed25519.Ed25519PrivateKey.generate(),
    }
    verifier = type(jwt.get_algorithm_by_name(algorithm))
    counted(verifier, "verify")
    counted(jwt.PyJWK, "__init__")
    work = {}

    def measure(who, text, answered=400):
        done.clear()
        assert ask(machine, form(text)).status_code == answered
        work[who] = list(done)

    ids = {"nobody": "nobody", "no key": secretive.client_id, "two keys": two.id}
    for who, client_id in {**ids, **{f"an {each} key": client.id for each, client in of.items()}}.items():
        client = SimpleNamespace(id=client_id, issuer=two.issuer, algorithm=algorithm)
        measure(who, assertion(client, key=strangers[algorithm]))
    for client in (of[algorithm], two):
        named = {"kid": thumbprint(client)}
        measure(f"{client.token.name}, by kid", assertion(client, key=strangers[algorithm], header=named))
        measure(f"{client.token.name}, rightly", assertion(client), 200)
    once = ["PyJWK.__init__", f"{verifier.__name__}.verify"]
    # What is issued to who signed rightly is not verified again.
    assert {who: steps for who, steps in work.items() if steps != once * 2} == {}


def test_nothing_is_fetched(machine, client):
    with socket.socket() as trap:
        trap.bind(("127.0.0.1", 0))
        trap.listen()
        trap.setblocking(False)
        url = f"http://127.0.0.1:{trap.getsockname()[1]}/keys"
        for header in ({"jku": url}, {"x5u": url}):
            granted(ask(machine, form(assertion(client, header=header))))
            refused(ask(machine, form(_with_own_key(client, **header))), 400, "invalid_client", WRONG)
        with pytest.raises(BlockingIOError):
            trap.accept()


def test_an_assertion_opens_once(machine, client):
    text = assertion(client)
    granted(ask(machine, form(text)))
    refused(ask(machine, form(text)), 400, "invalid_client", WRONG)
    again = claims_of(text)["jti"]
    refused(ask(machine, form(assertion(client, jti=again))), 400, "invalid_client", WRONG)
    granted(ask(machine, form(assertion(client))))


def test_an_assertion_is_used_up_by_whatever_it_asked_for(machine, client):
    text = assertion(client)
    asked = {**form(text), "scope": "billing:manage"}
    refused(ask(machine, asked), 400, "invalid_scope", "This client may not do: billing:manage")
    refused(ask(machine, form(text)), 400, "invalid_client", WRONG)


def test_two_clients_may_choose_the_same_jti(acme, machine, client):
    other = register(acme, "RS256", name="Other")
    for each in (client, other):
        granted(ask(machine, form(assertion(each, jti="1"))))


def test_what_was_refused_uses_nothing_up(machine, client):
    refused(ask(machine, form(assertion(client, key=STRANGER, jti="1"))), 400, "invalid_client", WRONG)
    refused(ask(machine, form(assertion(client, aud="x", jti="1"))), 400, "invalid_client", WRONG)
    granted(ask(machine, form(assertion(client, jti="1"))))


@pytest.mark.parametrize("lifetime", [300, 3600])
def test_a_used_assertion_is_kept_until_it_would_be_taken_no_more(machine, client, lifetime):
    at = timezone.now().replace(microsecond=0)
    with time_machine.travel(at, tick=False):
        text = assertion(client, exp=at.timestamp() + lifetime)
        granted(ask(machine, form(text)))
    ends = at + timedelta(seconds=300)
    assert list(UsedAssertion.objects.values_list("token", "expires_at")) == [(client.token.id, ends)]
    for moment in (ends - timedelta(seconds=1), ends):
        housekeeping.run(at=moment)
        with time_machine.travel(moment, tick=False):
            refused(ask(machine, form(text)), 400, "invalid_client", WRONG)
    assert UsedAssertion.objects.count() == 1
    housekeeping.run(at=ends + timedelta(minutes=6))
    assert UsedAssertion.objects.count() == 0


@pytest.mark.parametrize("endpoint", ["introspect", "revoke"])
def test_the_other_endpoints_take_it_too_and_for_the_same_audiences(acme, machine, endpoint):
    issued = acme.issue_for_environment(
        kind="client_credentials", roles=[], permissions=["tokens:introspect"], public_key=pem(PAIRS["ES256"])
    )
    client = SimpleNamespace(id=issued.token.client_id, issuer=acme.environment.issuer, algorithm="ES256")
    other = acme.issue("admin", kind="client_credentials", name="Other")
    access = jwt_of(machine, other)

    def post(text):
        sent = {"token": access, "client_assertion_type": JWT_BEARER, "client_assertion": text}
        content_type = "application/x-www-form-urlencoded"
        return machine.post(f"/oauth2/{endpoint}", data=urlencode(sent), content_type=content_type)

    for aud in (client.issuer, ENDPOINT):
        text = assertion(client, aud=aud)
        assert post(text).status_code == 200
        assert post(text).json()["error"] == "invalid_client"
    assert post(assertion(client, aud=f"{settings.ORIGIN}/oauth2/{endpoint}")).json()["error"] == "invalid_client"


@pytest.mark.parametrize(
    ("sent", "error", "text"),
    [
        (
            {"client_assertion": "a.b.c"},
            "invalid_request",
            "client_assertion and client_assertion_type belong together.",
        ),
        (
            {"client_assertion_type": JWT_BEARER},
            "invalid_request",
            "client_assertion and client_assertion_type belong together.",
        ),
        (
            {
                "client_assertion": "a.b.c",
                "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:saml2-bearer",
            },
            "invalid_client",
            f"The client_assertion_type that is served is {JWT_BEARER}.",
        ),
        (
            {"client_assertion": "a.b.c", "client_assertion_type": JWT_BEARER, "client_secret": "x"},
            "invalid_request",
            TWO_WAYS,
        ),
    ],
    ids=["without its type", "the type alone", "of another type", "beside a secret"],
)
def test_the_parameters_belong_together_and_to_nothing_else(machine, db, sent, error, text):
    refused(ask(machine, {**GRANT, **sent}), 400, error, text)


def test_beside_basic_it_is_refused_and_not_used_up(machine, client):
    text = assertion(client)
    refused(ask(machine, form(text), basic(client.id, "x")), 400, "invalid_request", TWO_WAYS)
    granted(ask(machine, form(text)))


def test_only_who_signs_rightly_learns_why_the_token_does_not_work(machine, client):
    ApiToken.objects.filter(pk=client.token.pk).update(disabled_at=timezone.now())
    refused(ask(machine, form(assertion(client))), 400, "unauthorized_client", "It is disabled.")
    refused(ask(machine, form(assertion(client, key=STRANGER))), 400, "invalid_client", WRONG)


def rotate(client, **asked):
    by = principals.system(client.house.environment)
    return rotation.rotate(by=by, token=client.token, at=timezone.now(), public_key=pem(NEXT), **asked)


@pytest.mark.parametrize("kid", [True, False])
def test_while_a_key_is_rotated_both_work_and_then_the_new_one_alone(machine, client, kid):
    old = {"kid": thumbprint(client)} if kid else {}
    rotate(client, overlap=3600)
    new = {"kid": thumbprint_of(NEXT)} if kid else {}
    granted(ask(machine, form(assertion(client, header=old))))
    granted(ask(machine, form(assertion(client, key=NEXT, header=new))))
    with time_machine.travel(timezone.now() + timedelta(hours=1, seconds=1), tick=False):
        refused(ask(machine, form(assertion(client, header=old))), 400, "invalid_client", WRONG)
        granted(ask(machine, form(assertion(client, key=NEXT, header=new))))


def test_the_kid_of_one_key_does_not_open_for_the_other(machine, client):
    rotate(client, overlap=3600)
    text = assertion(client, header={"kid": thumbprint_of(NEXT)})
    refused(ask(machine, form(text)), 400, "invalid_client", WRONG)


def test_a_key_that_was_replaced_is_told_when_it_is_used_again(machine, client):
    old = thumbprint(client)
    rotate(client, overlap=0)
    refused(ask(machine, form(assertion(client, header={"kid": old}))), 400, "invalid_client", WRONG)
    gathering.flush(at=timezone.now())
    event = AuditEvent.objects.get(verb="apitoken.retired_secret_used", target_id=client.token.id)
    assert event.after == {"kid": old}


def test_uses_are_counted_by_outcome_and_by_key(machine, client):
    granted(ask(machine, form(assertion(client))))
    ask(machine, form(assertion(client), scope="billing:manage"))
    ask(machine, form(assertion(client, key=STRANGER)))
    at = timezone.now()
    gathering.flush(at=at)
    counts = dict(UsageHour.objects.filter(token_id=client.token.id).values_list("outcome", "count"))
    assert counts == {"granted": 1, "rejected": 1, "wrong_secret": 1}
    assert Secret.objects.get(token=client.token).last_used_at is not None


def thumbprint_of(key):
    public = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    members = json.dumps({name: public[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    return base64.urlsafe_b64encode(hashlib.sha256(members.encode()).digest()).rstrip(b"=").decode()


@pytest.mark.postgres
@pytest.mark.django_db(transaction=True)
def test_of_two_at_the_same_moment_one_is_granted(world, machine):
    client = register(world.acme)
    granted(ask(machine, form(assertion(client))))
    sent = form(assertion(client))
    calls = [Call(lambda: ask(Client(), sent)) for _ in range(8)]
    statuses = sorted(call.result().status_code for call in calls)
    assert statuses == [200] + [400] * 7
