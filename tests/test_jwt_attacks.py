"""Forged, bent and outlived JWTs, each by its name: our API, and introspection, believe what our own key signed for
them, nothing else."""

import base64
import hashlib
import hmac
import json
from datetime import timedelta
from types import SimpleNamespace

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from django.conf import settings
from django.test import Client
from django.utils import timezone

from apitokens import keys
from apitokens.models import SigningKey
from tests.answers import UNKNOWN_TOKEN, inactive, unauthorized
from tests.cast import GUARD, basic, bearer, claims_of, everything_stored, guarding, jwt_of


@pytest.fixture
def forge(world, machine):
    """A live JWT of Acme's, taken apart, with the keys of both environments and one of the attacker's own."""
    acme = world.acme
    issued = acme.issue("admin", kind="client_credentials", roles=["viewer"])
    text = jwt_of(machine, issued)
    stored = SigningKey.objects.get(environment=world.production)
    theirs = SigningKey.objects.get(environment=world.staging)
    return SimpleNamespace(
        world=world, text=text, issued=issued, stored=stored, theirs=theirs,
        claims=claims_of(text), header=jwt.get_unverified_header(text),
        key=_private(stored), their_key=_private(theirs), own_key=ec.generate_private_key(ec.SECP256R1()),
        guard=guarding(machine, acme.issue_for_environment(**GUARD)),
    )  # fmt: skip


def _private(stored):
    return keys.decrypt_private_key(stored.private_key_encrypted, settings.KEY_ENCRYPTION_KEYS)


def _part(value):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def sign(f, *, key=None, algorithm="ES256", header=None, without=(), **claims):
    headers = {name: value for name, value in {**f.header, **(header or {})}.items() if name != "alg"}
    changed = {name: value for name, value in {**f.claims, **claims}.items() if name not in without}
    # Below the library's own idea of claims: it does not sign all that an attacker might.
    return jwt.PyJWS().encode(json.dumps(changed).encode(), key or f.key, algorithm=algorithm, headers=headers)


def _hmac(f, secret):
    """By hand: the library itself refuses to make such a thing."""
    body = f"{_part({**f.header, 'alg': 'HS256'})}.{_part(f.claims)}"
    return f"{body}.{_part(hmac.digest(secret, body.encode(), hashlib.sha256))}"


def _public_pem(f):
    return f.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def _public_jwk(f):
    return jwt.algorithms.ECAlgorithm.to_jwk(f.own_key.public_key(), as_dict=True)


def _tampered(f):
    head, _, signature = f.text.split(".")
    return f"{head}.{_part({**f.claims, 'scope': 'billing:manage'})}.{signature}"


def _cut(f, *parts):
    head, body, signature = f.text.split(".")
    return ".".join({"head": head, "body": body, "signature": signature}.get(part, part) for part in parts)


def _past(f):
    return int((timezone.now() - timedelta(seconds=1)).timestamp())


def _soon(f):
    return int((timezone.now() + timedelta(seconds=30)).timestamp())


def _certificate(f):
    """One that the attacker made for a key of their own, as `x5c` has it: base64 of DER."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f.world.production.issuer)])
    made = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(f.own_key.public_key())
    made = made.serial_number(1).not_valid_before(timezone.now()).not_valid_after(timezone.now() + timedelta(days=1))
    return base64.b64encode(made.sign(f.own_key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)).decode()


def _revoked(f):
    """Another one of the same client, which itself has ended it."""
    text = jwt_of(Client(), f.issued)
    form = f"token={text}"
    headers = basic(f.issued.token.client_id, f.issued.plaintext)
    Client().post("/oauth2/revoke", form, content_type="application/x-www-form-urlencoded", headers=headers)
    return text


ATTACKS = {
    "alg none": lambda f: f"{_part({**f.header, 'alg': 'none'})}.{_part(f.claims)}.",
    "alg None": lambda f: f"{_part({**f.header, 'alg': 'None'})}.{_part(f.claims)}.",
    "alg none with the old signature": lambda f: _cut(f, _part({**f.header, "alg": "none"}), "body", "signature"),
    "no alg": lambda f: f"{_part({'typ': 'at+jwt', 'kid': f.stored.kid})}.{_part(f.claims)}.",
    "no signature": lambda f: _cut(f, "head", "body", ""),
    "HS256 with the public key as PEM": lambda f: _hmac(f, _public_pem(f)),
    "HS256 with the public key as JWK": lambda f: _hmac(f, json.dumps(f.stored.public_jwk).encode()),
    "HS256 with an empty key": lambda f: _hmac(f, b""),
    "tampered claims": _tampered,
    "a tampered signature": lambda f: _cut(f, "head", "body", _part(b"\0" * 64)),
    "signed by a stranger": lambda f: sign(f, key=f.own_key),
    "the kid of another environment": lambda f: sign(f, header={"kid": f.theirs.kid}),
    "signed by another environment": lambda f: sign(f, key=f.their_key),
    "signed by another environment under its kid": lambda f: sign(f, key=f.their_key, header={"kid": f.theirs.kid}),
    "of another environment in all but the client": lambda f: sign(
        f,
        key=f.their_key,
        header={"kid": f.theirs.kid},
        iss=f.world.staging.issuer,
        aud=f.world.staging.issuer,
    ),
    "an unknown kid": lambda f: sign(f, key=f.own_key, header={"kid": "never"}),
    "no kid": lambda f: jwt.encode(f.claims, f.key, algorithm="ES256", headers={"typ": "at+jwt"}),
    "a kid that is no text": lambda f: f"{_part({**f.header, 'kid': [f.stored.kid]})}.{_part(f.claims)}.x",
    "a kid with a null byte": lambda f: sign(f, header={"kid": f"{f.stored.kid}\0"}),
    "a path for a kid": lambda f: sign(f, key=f.own_key, header={"kid": "../../../../dev/null"}),
    "a key in the header": lambda f: sign(f, key=f.own_key, header={"jwk": _public_jwk(f)}),
    "a key in the header and an unknown kid": lambda f: sign(
        f, key=f.own_key, header={"jwk": _public_jwk(f), "kid": "mine"}
    ),
    "jku": lambda f: sign(f, key=f.own_key, header={"jku": "http://localhost:1/jwks.json", "kid": "mine"}),
    "x5u": lambda f: sign(f, key=f.own_key, header={"x5u": "http://localhost:1/cert.pem"}),
    "x5c": lambda f: sign(f, key=f.own_key, header={"x5c": [_certificate(f)]}),
    "x5c and an unknown kid": lambda f: sign(f, key=f.own_key, header={"x5c": [_certificate(f)], "kid": "mine"}),
    "typ JWT": lambda f: sign(f, header={"typ": "JWT"}),
    "typ id token": lambda f: sign(f, header={"typ": "id+jwt"}),
    "typ status list": lambda f: sign(f, header={"typ": "statuslist+jwt"}),
    "typ client assertion": lambda f: sign(f, header={"typ": "client-authentication+jwt"}),
    "a typ within another": lambda f: sign(f, header={"typ": "application/application/at+jwt"}),
    "a typ that is no text": lambda f: sign(f, header={"typ": ["at+jwt"]}),
    "no typ": lambda f: jwt.encode(f.claims, f.key, algorithm="ES256", headers={"kid": f.stored.kid, "typ": None}),
    "a wrong audience": lambda f: sign(f, aud="https://other.example"),
    "the start of an audience": lambda f: sign(f, aud=f.claims["aud"][:-1]),
    "more than an audience": lambda f: sign(f, aud=f"{f.claims['aud']}.evil.example"),
    "an audience of another environment": lambda f: sign(f, aud=f.world.staging.issuer),
    "several wrong audiences": lambda f: sign(f, aud=["https://other.example", f.claims["aud"][:-1]]),
    "an empty audience": lambda f: sign(f, aud=""),
    "no audience in the list": lambda f: sign(f, aud=[]),
    "an audience that is no text": lambda f: sign(f, aud={f.claims["aud"]: True}),
    "an audience that is a number": lambda f: sign(f, aud=1),
    "no audience": lambda f: sign(f, without=("aud",)),
    "a wrong issuer": lambda f: sign(f, iss="https://other.example"),
    "the start of an issuer": lambda f: sign(f, iss=f.claims["iss"][:-1]),
    "more than an issuer": lambda f: sign(f, iss=f"{f.claims['iss']}/evil"),
    "an issuer that is a list": lambda f: sign(f, iss=[f.claims["iss"]]),
    "the issuer of another environment": lambda f: sign(f, iss=f.world.staging.issuer),
    "no issuer": lambda f: sign(f, without=("iss",)),
    "expired": lambda f: sign(f, exp=_past(f)),
    "no expiry": lambda f: sign(f, without=("exp",)),
    "an expiry that is no number": lambda f: sign(f, exp="tomorrow"),
    "not yet valid": lambda f: sign(f, nbf=_soon(f)),
    "issued in the future": lambda f: sign(f, iat=_soon(f)),
    "revoked": _revoked,
    "a detached payload": lambda f: sign(f, header={"b64": False, "crit": ["b64"]}),
    "encrypted, not signed": lambda f: f"{_part({**f.header, 'alg': 'dir', 'enc': 'A256GCM'})}..iv.text.tag",
    "an unknown critical header": lambda f: sign(f, header={"crit": ["cakes"], "cakes": True}),
    "no id": lambda f: sign(f, without=("jti",)),
    "no client": lambda f: sign(f, without=("client_id",)),
    "an unknown client": lambda f: sign(f, client_id="never"),
    "an access token for a client": lambda f: sign(f, client_id=f.world.acme.issue("admin", name="At").token.client_id),
    "no generation": lambda f: sign(f, without=("gen",)),
    "a generation to come": lambda f: sign(f, gen=f.claims["gen"] + 1),
    "a generation that is true": lambda f: sign(f, gen=str(f.claims["gen"])),
    "another tenant": lambda f: sign(f, tenant=str(f.world.globex.tenant.id)),
    "no tenant": lambda f: sign(f, without=("tenant",)),
    "too long": lambda f: sign(f, padding="x" * 8192),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_a_jwt_that_we_did_not_sign_for_this_is_401(forge, machine, name):
    before = everything_stored()
    bad = ATTACKS[name](forge)
    if name not in {"an access token for a client", "revoked"}:
        assert everything_stored() == before
    inactive(forge.guard.ask(bad))
    unauthorized(machine.get("/api/v1/token/self", headers=bearer(bad)), UNKNOWN_TOKEN)
    assert machine.get("/api/v1/token/self", headers=bearer(forge.text)).status_code == 200
    assert forge.guard.ask(forge.text).json()["active"] is True


GENUINE = {
    "as it was": lambda f: f.text,
    "signed again": sign,
    "of another letter case in typ": lambda f: sign(f, header={"typ": "AT+JWT"}),
    "with the full media type": lambda f: sign(f, header={"typ": "application/at+jwt"}),
    "for several audiences": lambda f: sign(f, aud=["https://other.example", f.claims["aud"]]),
    "for the issuer as audience": lambda f: sign(f, aud=f.claims["iss"]),
    "with a header nobody must know": lambda f: sign(f, header={"cakes": True}),
    "with a certificate and an address that nobody looks at": lambda f: sign(
        f, header={"x5c": [_certificate(f)], "jku": "http://localhost:1/jwks.json", "jwk": _public_jwk(f)}
    ),
    "valid from now on": lambda f: sign(f, nbf=int(timezone.now().timestamp())),
}


@pytest.mark.parametrize("name", GENUINE)
def test_what_our_key_signed_for_us_is_believed(forge, machine, name):
    """The attacks above differ from these by their one defect alone."""
    good = GENUINE[name](forge)
    answer = machine.get("/api/v1/token/self", headers=bearer(good))
    assert (answer.status_code, answer.json()["client_id"]) == (200, forge.issued.token.client_id)
    told = forge.guard.ask(good).json()
    assert (told["active"], told["client_id"]) == (True, forge.issued.token.client_id)


@pytest.mark.parametrize(
    ("state", "believed"),
    [("published", True), ("active", True), ("retiring", True), ("retired", False), ("compromised", False)],
)
def test_a_jwt_lives_while_its_key_verifies(forge, machine, state, believed):
    now = timezone.now()
    times = {"retiring_from": now} if state == "retiring" else {} if believed else {"ended_at": now}
    SigningKey.objects.filter(pk=forge.stored.pk).update(state=state, **times)
    told = forge.guard.ask(forge.text)
    answer = machine.get("/api/v1/token/self", headers=bearer(forge.text))
    if believed:
        assert (answer.status_code, told.json()["active"]) == (200, True)
    else:
        unauthorized(answer, UNKNOWN_TOKEN)
        inactive(told)
