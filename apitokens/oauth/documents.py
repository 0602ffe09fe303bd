"""What an environment tells the world of itself: metadata and public keys, served also while it is suspended."""

import hashlib
import json
from collections.abc import Callable, Mapping

from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.urls import reverse
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_safe

from apitokens import assertions, keyring
from apitokens.credentials import leak_pattern
from tenants.models import Environment

CLIENT_AUTHENTICATION = ["client_secret_basic", "client_secret_post", "private_key_jwt"]
# What each endpoint takes beside client credentials: at introspection an access token (RFC 8414 section 2 has that
# named by its type), at revocation nothing for an access token, which is its own proof.
ENDPOINTS: dict[str, tuple[str, list[str]]] = {
    "token": ("oauth-token", []),
    "introspection": ("oauth-introspect", ["Bearer"]),
    "revocation": ("oauth-revoke", ["none"]),
}
Describe = Callable[[Environment], Mapping[str, object]]


def authorization_server(environment: Environment) -> dict[str, object]:
    """RFC 8414 section 2, of what is served and nothing else."""
    document: dict[str, object] = {
        "issuer": environment.issuer,
        "jwks_uri": f"{environment.issuer}/jwks.json",
        "grant_types_supported": ["client_credentials"],
        # There is no authorization endpoint; the member itself is required.
        "response_types_supported": [],
        "scopes_supported": list(environment.permissions.order_by("key").values_list("key", flat=True)),
        "secret_pattern": leak_pattern(environment.token_prefix),
    }
    for name, (address, more) in ENDPOINTS.items():
        document |= {
            f"{name}_endpoint": settings.ORIGIN + reverse(address),
            f"{name}_endpoint_auth_methods_supported": [*CLIENT_AUTHENTICATION, *more],
            f"{name}_endpoint_auth_signing_alg_values_supported": list(assertions.ALGORITHMS),
        }
    return document


def openid_configuration(environment: Environment) -> dict[str, object]:
    """The same for clients that know OpenID Connect Discovery 1.0 alone, with the two members that they insist on.

    No ID token is issued. Verifiers take the algorithms in which JWTs may be signed from the member named for it.
    """
    algorithms = {key["alg"] for key in keyring.jwks(environment)["keys"]}
    return {
        **authorization_server(environment),
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": sorted(algorithms),
    }


def _served(describe: Describe) -> Callable[[HttpRequest, str], HttpResponseBase]:
    """The view of a document: 404 for an environment that is not there, else cacheable and with an ETag."""

    @csrf_exempt
    @require_safe
    def view(request: HttpRequest, environment: str) -> HttpResponseBase:
        found = Environment.objects.filter(slug=environment, deleted_at__isnull=True).first()
        if found is None:
            raise Http404
        body = json.dumps(describe(found)).encode()
        etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
        headers = {
            "ETag": etag,
            "Cache-Control": f"public, max-age={settings.JWKS_MAX_AGE}",
            "Access-Control-Allow-Origin": "*",
        }
        response = HttpResponse(body, content_type="application/json", headers=headers)
        return get_conditional_response(request, etag=etag, response=response) or response

    return view


jwks = _served(keyring.jwks)
metadata = _served(authorization_server)
openid = _served(openid_configuration)
