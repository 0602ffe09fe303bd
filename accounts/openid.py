"""Signing in at somebody else's OpenID Connect provider, by the code flow: what is asked and what is believed.

The relying party's side of OpenID Connect Core 1.0 section 3.1, with PKCE (RFC 7636). What a browser is sent away with
is bound to it: `state` is in its address, a digest of it in its session, and nonce and code verifier are derived from
it by our own key, so that neither the address nor the database alone completes a sign-in. All that the provider says is
checked, the signature too although it came over TLS; nothing is believed from a browser but the code.
"""

import json
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from secrets import token_urlsafe
from typing import Any
from urllib.parse import quote_plus, urlencode

import jwt
from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from accounts import outbound
from audit.words import later

WELL_KNOWN = "/.well-known/openid-configuration"
ISSUER_MAX = 255
# How far the provider's clock may be from ours, in seconds.
LEEWAY = 60
SCOPES = "openid profile email"
# Signatures alone, and by keys of which we have the public half: none that a client secret could make.
ALGORITHMS = frozenset({
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
})  # fmt: skip
REQUIRED = ["iss", "sub", "aud", "exp", "iat"]
# Of a key nothing else is looked at (RFC 7518 section 6): no private part, of which there should be none.
PUBLIC_PARTS = ("kty", "use", "alg", "kid", "n", "e", "crv", "x", "y")
TYPES = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}
CURVES = {
    **dict.fromkeys(ALGORITHMS, ("",)),
    "ES256": ("P-256",), "ES384": ("P-384",), "ES512": ("P-521",), "EdDSA": ("Ed25519", "Ed448"),
}  # fmt: skip
# In characters of base64url.
LENGTHS = {"n": 1_366, "e": 11, "x": 88, "y": 88}


class ProviderError(Exception):
    """The provider did not do what a provider does. The text is for the log and for who configured it."""


@dataclass(frozen=True, kw_only=True)
class Client:
    """Who we are at that provider."""

    issuer: str
    client_id: str
    secret: str = field(repr=False)
    redirect_uri: str


@dataclass(frozen=True, kw_only=True)
class Provider:
    """What a provider publishes of itself."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    userinfo_endpoint: str
    takes_secret_in_body: bool


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Whom the provider names. `authenticated_at` is when they showed it who they are, if it says so."""

    sub: str
    email: str
    name: str
    authenticated_at: datetime | None


def discover(issuer: str, *, deadline: float | None = None) -> Provider:
    """What is published there, if it is about that very issuer but for a slash at its end; raises ProviderError."""
    published_at = issuer.rstrip("/") + WELL_KNOWN
    said = _json(_fetch(published_at, deadline=deadline), published_at)
    named = _text(said, "issuer")
    if named.rstrip("/") != issuer.rstrip("/") or len(named) > ISSUER_MAX:
        raise ProviderError(later("It calls itself %(named)s, and not %(issuer)s.", named=named[:200], issuer=issuer))
    endpoints = {name: _text(said, name) for name in ("authorization_endpoint", "token_endpoint", "jwks_uri")}
    _check_for_browsers(endpoints["authorization_endpoint"], issuer)
    methods = said.get("token_endpoint_auth_methods_supported")
    userinfo = said.get("userinfo_endpoint")
    return Provider(
        issuer=named,
        userinfo_endpoint=userinfo if isinstance(userinfo, str) else "",
        takes_secret_in_body=isinstance(methods, list) and "client_secret_post" in methods,
        **endpoints,
    )


def new_state() -> str:
    return token_urlsafe(32)


def digest_of(state: str) -> str:
    return sha256(state.encode()).hexdigest()


def address_of(provider: Provider, client: Client, state: str, *, again: bool) -> str:
    """Where the browser is sent. `again`: the person shall show who they are, however lately they did."""
    challenge = urlsafe_b64encode(sha256(_derived("verifier", state).encode()).digest()).rstrip(b"=").decode()
    asked = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": client.redirect_uri,
        "scope": SCOPES,
        "state": state,
        "nonce": _derived("nonce", state),
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        **({"prompt": "login", "max_age": "0"} if again else {}),
    }
    joint = "&" if "?" in provider.authorization_endpoint else "?"
    return f"{provider.authorization_endpoint}{joint}{urlencode(asked)}"


def identify(client: Client, *, code: str, state: str, at: datetime) -> Identity:
    """Whom the code stands for. All requests together take as long as one may; raises ProviderError."""
    deadline = outbound.in_time()
    provider = discover(client.issuer, deadline=deadline)
    if provider.issuer != client.issuer:
        raise ProviderError(
            later("It calls itself %(named)s, and not %(issuer)s.", named=provider.issuer, issuer=client.issuer)
        )
    answer = _exchange(provider, client, code, state, deadline)
    claims = _verified(_text(answer, "id_token"), provider, client, state, deadline)
    authenticated_at = _moment(claims.get("auth_time"), at)
    about = _about(claims, answer, provider, deadline)
    return Identity(
        sub=claims["sub"],
        email=_said(about, "email") if about.get("email_verified") is not False else "",
        name=_said(about, "name"),
        authenticated_at=authenticated_at,
    )


def _exchange(provider: Provider, client: Client, code: str, state: str, deadline: float) -> Mapping[str, Any]:
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": client.redirect_uri,
        "code_verifier": _derived("verifier", state),
    }
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if provider.takes_secret_in_body:
        form |= {"client_id": client.client_id, "client_secret": client.secret}
    else:
        # RFC 6749 section 2.3.1: both are form-encoded first.
        proof = f"{quote_plus(client.client_id)}:{quote_plus(client.secret)}"
        headers["Authorization"] = f"Basic {b64encode(proof.encode()).decode()}"
    body = urlencode(form).encode()
    try:
        answer = outbound.post(provider.token_endpoint, body, headers=headers, deadline=deadline)
    except outbound.OutboundError as error:
        raise ProviderError(error) from error
    said = _json(answer.body, provider.token_endpoint)
    if answer.status != 200:
        raise ProviderError(later("It refused the code: %(why)s.", why=_said(said, "error")[:64] or answer.status))
    return said


def _verified(id_token: str, provider: Provider, client: Client, state: str, deadline: float) -> dict[str, Any]:
    """The claims, after everything that section 3.1.3.7 asks for."""
    key_set = _json(_fetch(provider.jwks_uri, deadline=deadline), provider.jwks_uri)
    try:
        header = jwt.get_unverified_header(id_token)
        claims: dict[str, Any] = jwt.decode(
            id_token,
            key=_key(key_set, header).key,
            algorithms=[header["alg"]],
            audience=client.client_id,
            issuer=client.issuer,
            leeway=LEEWAY,
            options={"require": REQUIRED},
        )
    except (jwt.PyJWTError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ProviderError(later("Its ID token is not good: %(why)s.", why=error)) from error
    audiences = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
    if claims.get("azp", client.client_id) != client.client_id or (len(audiences) > 1 and "azp" not in claims):
        raise ProviderError(later("Its ID token is for another client."))
    if not constant_time_compare(_said(claims, "nonce"), _derived("nonce", state)):
        raise ProviderError(later("Its ID token answers another sign-in."))
    if not claims["sub"]:
        raise ProviderError(later("Its ID token names nobody."))
    return claims


def _key(key_set: Mapping[str, Any], header: Mapping[str, Any]) -> jwt.PyJWK:
    """The one that the token says it is signed by, or the only one of its kind."""
    if header["alg"] not in ALGORITHMS:
        raise ProviderError(
            later(
                "Its ID token is signed by %(algorithm)s, which is no algorithm of a public key.",
                algorithm=str(header["alg"])[:32],
            )
        )
    published = key_set.get("keys")
    chosen = [each for each in published if _fits(each, header)] if isinstance(published, list) else []
    if len(chosen) != 1:
        raise ProviderError(later("Its ID token is signed by a key that it does not publish."))
    public = {name: chosen[0][name] for name in PUBLIC_PARTS if name in chosen[0]}
    return jwt.PyJWK.from_dict(public, algorithm=header["alg"])


def _fits(key: object, header: Mapping[str, Any]) -> bool:
    """Chosen before anything of it is worked out: what is published may be made to last for hours.

    Members are text as long as those of keys are, RSA with up to 8,192 bits. One that names no algorithm is good for
    all of its type.
    """
    if not isinstance(key, dict) or any(not isinstance(key.get(name, ""), str) for name in PUBLIC_PARTS):
        return False
    is_meant = key.get("kid") == header["kid"] if "kid" in header else True
    is_signing = key.get("use", "sig") == "sig" and key.get("alg", header["alg"]) == header["alg"]
    is_of_type = key.get("kty") == TYPES[header["alg"][:2]] and key.get("crv", "") in CURVES[header["alg"]]
    is_bounded = all(len(key.get(name, "")) <= most for name, most in LENGTHS.items())
    return is_meant and is_signing and is_of_type and is_bounded


def _about(
    claims: Mapping[str, Any], answer: Mapping[str, Any], provider: Provider, deadline: float
) -> Mapping[str, Any]:
    """What is said of the person beside who they are: by the ID token, or where it is silent by the user info.

    That nothing more is to be had keeps nobody out; what is said of another `sub` is not looked at (section 5.3.2).
    """
    token = _said(answer, "access_token")
    if ("email" in claims and "name" in claims) or not provider.userinfo_endpoint or not token.isprintable():
        return claims
    try:
        body = _fetch(provider.userinfo_endpoint, headers={"Authorization": f"Bearer {token}"}, deadline=deadline)
        said = _json(body, provider.userinfo_endpoint)
    except ProviderError:
        return claims
    return {**said, **claims} if said.get("sub") == claims["sub"] else claims


def _moment(said: object, at: datetime) -> datetime | None:
    """When they showed who they are; never later than now. Raises ProviderError for what is no time of the past."""
    if said is None:
        return None
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= at.timestamp() + LEEWAY:
        raise ProviderError(later("Its ID token says that the person signed in at a time that has not come."))
    return min(datetime.fromtimestamp(said, tz=UTC), at)


def _fetch(url: str, *, headers: Mapping[str, str] | None = None, deadline: float | None) -> bytes:
    try:
        answer = outbound.get(url, headers={"Accept": "application/json", **(headers or {})}, deadline=deadline)
    except outbound.OutboundError as error:
        raise ProviderError(error) from error
    if answer.status != 200:
        raise ProviderError(later("%(url)s answers %(status)s.", url=url[:200], status=answer.status))
    return answer.body


def _json(body: bytes, where: str) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise ProviderError(
            later("What it answers at %(where)s is not the JSON that it should be.", where=where[:200])
        ) from error
    if not isinstance(said, dict):
        raise ProviderError(later("What it answers at %(where)s is not the JSON that it should be.", where=where[:200]))
    return said


def _text(said: Mapping[str, Any], name: str) -> str:
    if not (value := _said(said, name)):
        raise ProviderError(later("It leaves %(name)s out.", name=name))
    return value


def _said(about: Mapping[str, Any], name: str) -> str:
    value = about.get(name)
    return value if isinstance(value, str) else ""


def _check_for_browsers(url: str, issuer: str) -> None:
    """Where people are sent to is no script and no plain http, unless the whole provider is a trial's."""
    try:
        scheme = outbound.parts_of(url)[0]
    except outbound.OutboundError as error:
        raise ProviderError(later("Its authorization_endpoint is no address: %(why)s", why=error)) from error
    if scheme != "https" and not issuer.startswith("http://"):
        raise ProviderError(later("Its authorization_endpoint is not reached by https."))


def _derived(what: str, state: str) -> str:
    mac = salted_hmac(f"accounts.openid.{what}", state, secret=settings.SECRET_KEY, algorithm="sha256")
    return urlsafe_b64encode(mac.digest()).rstrip(b"=").decode()
