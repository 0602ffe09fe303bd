"""The OAuth2 wire: the token endpoint, thin over oauthlib's grant, and each environment's two public documents."""

import hashlib
import json
from collections.abc import Mapping
from urllib.parse import parse_qsl

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, JsonResponse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe
from oauthlib.common import Request
from oauthlib.oauth2 import ClientCredentialsGrant, OAuth2Error
from oauthlib.oauth2.rfc6749 import errors

from apitokens import jwts, keyring
from apitokens.access import client_ip, find_tenant
from apitokens.credentials import leak_pattern, redacted
from apitokens.metrics import GRANTS
from apitokens.oauth.validator import ClientValidator
from tenants.models import Environment, Tenant

FORM = "application/x-www-form-urlencoded"
JWKS_MAX_AGE = 300
# RFC 6749 section 3.2: "Request and response parameters MUST NOT be included more than once."
ONCE = ("grant_type", "scope", "client_id", "client_secret", "tenant")


class JWTIssuer:
    """What oauthlib calls a token handler: signs a JWT for the authenticated client and writes nothing."""

    def create_token(self, request: Request, *, refresh_token: bool) -> dict[str, object]:
        live = request.live
        tenant = _bound_tenant(request)
        now = live.now.narrowed(request.scopes)
        access, lifetime = jwts.issue(
            live.token,
            tenant=tenant,
            now=now,
            key=keyring.active_key(live.token.environment),
            audience=live.audience,
            at=timezone.now(),
        )
        return {
            "access_token": access,
            "token_type": "Bearer",
            "expires_in": lifetime,
            "scope": " ".join(sorted(now.permissions)),
        }


def _bound_tenant(request: Request) -> Tenant | None:
    """`tenant` (id or external id): an environment-owned token may name any of its tenants, others only their own."""
    token, reference = request.live.token, getattr(request, "tenant", None)
    if not reference:
        return token.tenant
    allowed = Tenant.objects.filter(environment=token.environment_id)
    if token.tenant_id is not None:
        allowed = allowed.filter(pk=token.tenant_id)
    try:
        return find_tenant(allowed, reference)
    except Http404 as error:
        raise errors.InvalidRequestError(description="Unknown tenant.") from error


def _checked(request: HttpRequest) -> Request:
    """The form as oauthlib's request, once its shape is right; raises OAuth2Error."""
    if request.content_type != FORM:
        raise errors.InvalidRequestError(
            description=f"Send the parameters as {FORM}, in the body; not as JSON or anything else."
        )
    if request.META.get("QUERY_STRING"):
        raise errors.InvalidRequestError(description="Parameters belong in the body, not in the address.")
    try:
        pairs = parse_qsl(request.body.decode("utf-8"), keep_blank_values=True, max_num_fields=50)
    except (UnicodeDecodeError, ValueError) as error:
        raise errors.InvalidRequestError(description="The body is not a readable form.") from error
    names = [name for name, _ in pairs]
    if repeated := [name for name in ONCE if names.count(name) > 1]:
        raise errors.InvalidRequestError(description=f"Repeated parameter: {', '.join(repeated)}.")
    headers = {"authorization": request.headers.get("Authorization", ""), "client-ip": client_ip(request)}
    # RFC 6749 section 3.2: unknown parameters are ignored, and one without a value is as good as not sent.
    known = [(name, value) for name, value in pairs if name in ONCE and value.strip()]
    asked = Request(request.path, http_method="POST", body=known, headers=headers)
    asked.scopes = (asked.scope or "").split()
    return asked


@csrf_exempt
def token(request: HttpRequest) -> HttpResponse:
    """`POST /oauth2/token` (RFC 6749 section 4.4)."""
    if request.method != "POST":
        return _answer({"error": "invalid_request", "error_description": "Use POST."}, 405, {"Allow": "POST"})
    try:
        asked = _checked(request)
        headers, body, status = ClientCredentialsGrant(ClientValidator()).create_token_response(asked, JWTIssuer())
        answer = json.loads(body)
    except OAuth2Error as error:
        headers, answer, status = error.headers, dict(error.twotuples), error.status_code
    GRANTS.labels(outcome=answer.get("error", "granted")).inc()
    return _answer(answer, status, headers)


def _answer(body: dict[str, object], status: int, headers: dict[str, str]) -> HttpResponse:
    if "error_description" in body:
        body["error_description"] = redacted(str(body["error_description"]))
    kept = {name: value for name, value in headers.items() if name in {"WWW-Authenticate", "Allow"}}
    return JsonResponse(body, status=status, headers={"Cache-Control": "no-store", "Pragma": "no-cache", **kept})


@csrf_exempt
@require_safe
def jwks(request: HttpRequest, environment: str) -> HttpResponseBase:
    """The public keys by which anyone verifies this environment's JWTs; served also while it is suspended."""
    return _document(request, keyring.jwks(_environment(environment)))


@csrf_exempt
@require_safe
def metadata(request: HttpRequest, environment: str) -> HttpResponseBase:
    """Authorization server metadata (RFC 8414 section 2), of what is served and nothing else."""
    found = _environment(environment)
    origin = found.issuer.removesuffix(f"/e/{found.slug}")
    return _document(
        request,
        {
            "issuer": found.issuer,
            "token_endpoint": f"{origin}/oauth2/token",
            "jwks_uri": f"{found.issuer}/jwks.json",
            "grant_types_supported": ["client_credentials"],
            "response_types_supported": [],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "secret_pattern": leak_pattern(found.token_prefix),
            "scopes_supported": list(found.permissions.order_by("key").values_list("key", flat=True)),
        },
    )


def _environment(slug: str) -> Environment:
    environment = Environment.objects.filter(slug=slug, deleted_at__isnull=True).first()
    if environment is None:
        raise Http404
    return environment


def _document(request: HttpRequest, document: Mapping[str, object]) -> HttpResponseBase:
    body = json.dumps(document).encode()
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    headers = {"ETag": etag, "Cache-Control": f"public, max-age={JWKS_MAX_AGE}", "Access-Control-Allow-Origin": "*"}
    document_response = HttpResponse(body, content_type="application/json", headers=headers)
    return get_conditional_response(request, etag=etag, response=document_response) or document_response
