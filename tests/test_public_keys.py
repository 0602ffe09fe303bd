"""A public key in the place of a secret (RFC 7523): pasted, never fetched, and rotated like a secret."""

import base64
import json

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from apitokens import keys
from apitokens.models import Secret
from apitokens.services import Issued
from audit.models import AuditEvent
from tests.agreement import answer_to
from tests.answers import problem
from tests.cast import everything_stored, pem

# What signing in and the record of a refusal change.
CHANGING = ("audit_auditevent", "audit_person", "django_session", "accounts_user")
NEW = {"name": "CI", "kind": "client_credentials", "roles": ["viewer"]}
PRIVATE = (
    "This is a private key, which nobody but its owner may have. It was not kept; it has travelled, so make a new pair "
    "and paste the public half."
)
KINDS = "Use an EC key on P-256, an RSA key of 2,048 to 8,192 bits, or an Ed25519 key."


def private_pem(key: PrivateKeyTypes, form=serialization.PrivateFormat.PKCS8) -> str:
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()).decode()


def jwk(algorithm: str) -> dict[str, str]:
    """The bare members: neither `kid` nor `alg` nor `use`."""
    made = keys.generate(algorithm).public_jwk
    return {name: value for name, value in made.items() if name not in {"kid", "alg", "use"}}


EC, ED = ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate()
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
SHORT = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 -- to be refused
GOOD = [
    pytest.param(json.dumps(jwk("ES256")), "ES256", id="jwk-p256"),
    pytest.param(json.dumps(jwk("RS256"), indent=2), "RS256", id="jwk-rsa"),
    pytest.param(json.dumps(jwk("EdDSA")), "EdDSA", id="jwk-ed25519"),
    pytest.param(jwk("ES256"), "ES256", id="jwk-as-an-object"),
    pytest.param({**jwk("ES256"), "kid": "mine", "alg": "ES256", "use": "sig", "x5c": ["x"]}, "ES256", id="jwk-full"),
    pytest.param({**jwk("EdDSA"), "alg": "Ed25519"}, "EdDSA", id="jwk-by-its-newer-name"),
    pytest.param(pem(EC), "ES256", id="pem-p256"),
    pytest.param(pem(RSA), "RS256", id="pem-rsa"),
    pytest.param(f"\n  {pem(ED)}\n", "EdDSA", id="pem-ed25519"),
]
MEMBERS = {"ES256": {"kty", "crv", "x", "y"}, "RS256": {"kty", "n", "e"}, "EdDSA": {"kty", "crv", "x"}}


@pytest.mark.parametrize(("pasted", "algorithm"), GOOD)
def test_a_public_key_is_kept_with_its_thumbprint_and_nothing_else(acme, pasted, algorithm):
    answer = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "public_key": pasted})
    assert answer.status_code == 201, answer.json()
    stored = Secret.objects.get().public_key
    assert set(stored) == MEMBERS[algorithm] | {"kid", "alg", "use"}
    assert (stored["alg"], stored["use"]) == (algorithm, "sig")
    assert stored["kid"] == keys.thumbprint({name: stored[name] for name in MEMBERS[algorithm]})
    made = answer.json()
    assert not {"client_secret", "access_token"} & set(made)
    assert (made["last_four"], [(row["kid"], row["algorithm"]) for row in made["secrets"]]) == (
        None,
        [(stored["kid"], algorithm)],
    )
    row = Secret.objects.get()
    assert (row.digest, row.pepper_id, row.last_four) == (None, None, "")


def altered(**changes) -> str:
    return json.dumps({**jwk("ES256"), **changes})


def b64(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes((number.bit_length() + 7) // 8 or 1)).rstrip(b"=").decode()


BAD = {
    "a private PEM": (private_pem(EC), PRIVATE),
    "a private PEM of old": (private_pem(RSA, serialization.PrivateFormat.TraditionalOpenSSL), PRIVATE),
    "a private key of OpenSSH": (private_pem(ED, serialization.PrivateFormat.OpenSSH), PRIVATE),
    "a public and a private PEM": (pem(EC) + private_pem(EC), PRIVATE),
    "a private JWK": (altered(d="AAAA"), PRIVATE),
    "a shared key": (json.dumps({"kty": "oct", "k": "AAAA"}), PRIVATE),
    "one factor of RSA": (json.dumps({**jwk("RS256"), "p": "AAAA"}), PRIVATE),
    "short RSA": (pem(SHORT), KINDS),
    "an endless exponent": (json.dumps({"kty": "RSA", "n": jwk("RS256")["n"], "e": b64(2**2000 + 1)}), KINDS),
    "P-384": (pem(ec.generate_private_key(ec.SECP384R1())), KINDS),
    "secp256k1": (pem(ec.generate_private_key(ec.SECP256K1())), KINDS),
    "Ed448": (pem(ed448.Ed448PrivateKey.generate()), KINDS),
    "DSA": (pem(dsa.generate_private_key(key_size=2048)), KINDS),
    "off the curve": (altered(y=jwk("ES256")["y"]), "This is not a public key as a JWK."),
    "without its x": (json.dumps({"kty": "EC", "crv": "P-256", "y": "AAAA"}), "This is not a public key as a JWK."),
    "of no type": (json.dumps({"x": "AAAA"}), "This is not a public key as a JWK."),
    "of an odd type": (altered(kty=["EC"]), "This is not a public key as a JWK."),
    "for encryption": (altered(use="enc"), "This key is not meant to sign with ES256, RS256 or EdDSA."),
    "for another algorithm": (altered(alg="PS256"), "This key is not meant to sign with ES256, RS256 or EdDSA."),
    "a set": (json.dumps({"keys": [jwk("ES256")]}), "This is a set of keys: paste one of them."),
    "broken JSON": ('{"kty": "EC"', "This begins like a JWK but is not readable JSON."),
    "deep JSON": ('{"a":' * 1500, "This begins like a JWK but is not readable JSON."),
    "a certificate": (
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----",
        "This is a certificate: paste the public key in it (openssl x509 -pubkey -noout).",
    ),
    "broken PEM": ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", "This is not a readable public key."),
    "an address": (
        "https://example.com/jwks.json",
        "Paste a public key as a JWK, or as a PEM that begins with -----BEGIN PUBLIC KEY-----.",
    ),
    "nothing": ("", "Paste a public key as a JWK, or as a PEM that begins with -----BEGIN PUBLIC KEY-----."),
    "too much": (pem(EC) + "x" * 8192, "This is too long for one public key."),
}


@pytest.mark.parametrize("what", BAD)
def test_anything_else_is_refused_in_words_and_leaves_no_trace(acme, caplog, what):
    pasted, message = BAD[what]
    before = everything_stored(but=CHANGING)
    answer = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "public_key": pasted})
    expected = problem(400, "invalid", message, errors={"public_key": [message]})
    assert (answer.status_code, answer.json()) == (400, expected)
    assert everything_stored(but=CHANGING) == before
    lines = [line for line in pasted.splitlines() if len(line) > 40] if isinstance(pasted, str) else []
    for line in lines:
        assert line not in str(everything_stored())
        assert line not in caplog.text


def test_a_key_is_no_number(acme):
    answer = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "public_key": 7})
    assert answer.json()["errors"] == {"public_key": ["Give a JWK or a PEM."]}


def test_only_client_credentials_have_a_public_key(acme):
    message = "Only client credentials can have a public key instead of a secret."
    sent = {**NEW, "kind": "access_token", "public_key": pem(EC)}
    made = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", sent)
    issued = acme.issue("admin")
    turned = acme.api("admin", "POST", f"tokens/{issued.token.token_id}/rotate", {"public_key": pem(EC)})
    for answer in (made, turned):
        assert (answer.status_code, answer.json()["errors"]) == (400, {"public_key": [message]})


@pytest.fixture
def keyed(acme):
    """A client with a public key: its token id."""
    made = acme.api("admin", "POST", f"tokens?tenant={acme.tenant.id}", {**NEW, "public_key": pem(EC)})
    return made.json()["id"]


def test_a_key_is_rotated_like_a_secret_and_into_one_and_back(acme, machine, keyed):
    path = f"tokens/{keyed}/rotate"
    other = acme.api("admin", "POST", path, {"public_key": pem(ED)}).json()
    assert [row["algorithm"] for row in other["secrets"]] == ["ES256", "EdDSA"]
    assert other["rotation"] is not None
    assert acme.api("admin", "POST", f"{path}/complete").status_code == 200
    with_secret = acme.api("admin", "POST", path).json()
    assert [(row["algorithm"], row["last_four"]) for row in with_secret["secrets"]] == [
        ("EdDSA", None),
        (None, with_secret["client_secret"][-4:]),
    ]
    issued = Issued(token=Secret.objects.first().token, plaintext=with_secret["client_secret"])
    assert answer_to(machine, issued).status_code == 200
    assert acme.api("admin", "POST", f"{path}/complete").status_code == 200
    back = acme.api("admin", "POST", path, {"public_key": pem(RSA), "overlap": 0}).json()
    assert ([row["algorithm"] for row in back["secrets"]], back["last_four"]) == (["RS256"], None)
    assert answer_to(machine, issued).status_code == 401
    event = AuditEvent.objects.filter(verb="apitoken.rotated").latest("id")
    assert event.after["secrets"] == [back["secrets"][0]["kid"]]


def test_a_deleted_token_is_remembered_by_the_thumbprint_of_its_key(acme, keyed):
    kid = Secret.objects.get().public_key["kid"]
    assert acme.api("admin", "DELETE", f"tokens/{keyed}").status_code == 204
    before = AuditEvent.objects.get(verb="apitoken.deleted").before
    assert (before["kid"], "last_four" in before) == (kid, False)
    assert f"{NEW['name']} {kid[:8]}…" in acme.browser("admin").get(f"/t/{acme.tenant.slug}/audit/").content.decode()


@pytest.mark.parametrize("retired", [False, True])
def test_one_key_is_not_registered_twice_on_one_token(acme, keyed, retired):
    path = f"tokens/{keyed}/rotate"
    if retired:
        assert acme.api("admin", "POST", path, {"public_key": pem(ED), "overlap": 0}).status_code == 201
    # The same key in another form is the same key.
    same = json.dumps({name: value for name, value in keys.read_public_key(pem(EC)).items() if name != "kid"})
    answer = acme.api("admin", "POST", path, {"public_key": same, "overlap": 0})
    message = "This token has, or had, this very key: make a new pair."
    assert (answer.status_code, answer.json()["errors"]) == (400, {"public_key": [message]})
    assert Secret.objects.filter(slot__isnull=False).count() == 1
    other = acme.issue("admin", name="Other", kind="client_credentials")
    elsewhere = acme.api("admin", "POST", f"tokens/{other.token.token_id}/rotate", {"public_key": same})
    assert elsewhere.status_code == 201


def test_a_private_key_in_the_wrong_field_is_not_in_the_record_of_the_refusal(acme):
    """Whoever pastes it there has a new pair to make; our record must not be where it is found."""
    lines = private_pem(EC).splitlines()
    issued = acme.issue("admin", kind="client_credentials")
    sent = {"public_key": private_pem(EC), "overlap": 0}
    assert acme.api("viewer", "POST", f"tokens/{issued.token.token_id}/rotate", sent).status_code == 403
    assert acme.api("admin", "POST", f"tokens/{issued.token.token_id}/rotate", sent).status_code == 400
    assert lines[1] not in str(everything_stored())
