"""`POST /oauth2/token` (RFC 6749 section 4.4): oauthlib's grant decides, a JWT is signed; no grant is stored (R9)."""

import re
from dataclasses import replace

from django.http import Http404, HttpResponse
from oauthlib.common import Request
from oauthlib.oauth2 import ClientCredentialsGrant, OAuth2Error
from oauthlib.oauth2.rfc6749 import errors

from apitokens import jwts, keyring, policy, status_list
from apitokens.access import find_tenant
from apitokens.authentication import Authenticated
from apitokens.metrics import GRANTS
from apitokens.models import UsageHour
from apitokens.oauth.answers import answer, endpoint
from apitokens.oauth.form import Asked
from apitokens.oauth.validator import ClientValidator
from tenants.models import Tenant

# RFC 3986 section 4.3: a scheme and something behind it, and no fragment.
ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:[^#\s]+")


class InvalidTarget(errors.OAuth2Error):
    """RFC 8707 section 2."""

    error = "invalid_target"


@endpoint(repeatable=["resource"], counter=GRANTS)
def token(asked: Asked) -> HttpResponse:
    known = [(name, asked.parameters[name]) for name in ("grant_type", "scope") if name in asked.parameters]
    request = Request("/oauth2/token", http_method="POST", body=known)
    request.asked, request.live = asked, None
    try:
        ClientCredentialsGrant(ClientValidator()).validate_token_request(request)
        return answer(_issue(asked, request.live, request.scopes))
    except OAuth2Error:
        if request.live is not None:
            request.live.note(UsageHour.Outcome.REJECTED, at=asked.at, ip=asked.ip)
        raise


def _issue(asked: Asked, live: Authenticated, scopes: list[str]) -> dict[str, object]:
    """RFC 6749 section 5.1, with the scope always said."""
    audiences, tenant = _audiences(asked, live), _bound_tenant(asked, live)
    now, generation = live.now.narrowed(scopes), policy.generation(live.token, tenant)
    try:
        access, lifetime = jwts.issue(
            live.token,
            tenant=tenant,
            now=now,
            key=keyring.active_key(live.token.environment),
            audience=audiences[0] if len(audiences) == 1 else audiences,
            generation=generation,
            status=status_list.place_of(live.token, tenant, generation=generation),
            at=asked.at,
        )
    except jwts.TooLong as error:
        raise errors.InvalidScopeError(description="The JWT would be too long: ask for fewer scopes.") from error
    replace(live, tenant=tenant).note(UsageHour.Outcome.GRANTED, at=asked.at, ip=asked.ip)
    return {
        "access_token": access,
        "token_type": "Bearer",
        "expires_in": lifetime,
        "scope": " ".join(sorted(now.permissions)),
    }


def _audiences(asked: Asked, live: Authenticated) -> list[str]:
    """What the JWT is for: what `resource` names, in that order, or by default."""
    named = list(dict.fromkeys(asked.repeatable["resource"]))
    for resource in named:
        if not ABSOLUTE_URI.fullmatch(resource):
            raise InvalidTarget(description=f"A resource is an absolute URI without a fragment: {resource[:400]}")
        if resource not in live.audiences.allowed:
            raise InvalidTarget(description=f"This client gets no token for the resource {resource[:400]}")
    return named or list(live.audiences.default)


def _bound_tenant(asked: Asked, live: Authenticated) -> Tenant | None:
    """`tenant` (id or external id): an environment-owned token may name any of its tenants, others only their own."""
    reference = asked.parameters.get("tenant")
    if reference is None:
        return live.tenant
    allowed = Tenant.objects.filter(environment=live.token.environment_id)
    if live.token.tenant_id is not None:
        allowed = allowed.filter(pk=live.token.tenant_id)
    try:
        return find_tenant(allowed, reference)
    except Http404 as error:
        raise errors.InvalidRequestError(description="Unknown tenant.") from error
