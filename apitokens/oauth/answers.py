"""How an OAuth2 endpoint answers: JSON that nobody keeps, whatever happens."""

import re
from collections.abc import Callable, Collection, Mapping
from functools import wraps

from django.http import HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from oauthlib.oauth2 import OAuth2Error
from prometheus_client import Counter

from apitokens.access import PortalRequest
from apitokens.credentials import redacted
from apitokens.oauth import form
from apitokens.oauth.form import Asked

NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
# RFC 6749 section 5.2: what may not be in a description.
_UNSAYABLE = re.compile(r"[^\x20-\x21\x23-\x5B\x5D-\x7E]+")
Answering = Callable[[Asked], HttpResponse]
View = Callable[[PortalRequest], HttpResponse]


def answer(body: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> JsonResponse:
    return JsonResponse(body, status=status, headers={**NO_STORE, **(headers or {})})


def refusal(error: str, description: str, status: int, headers: Mapping[str, str] | None = None) -> JsonResponse:
    """RFC 6749 section 5.2. What was sent may be named in the description, but never a secret."""
    said = sayable(description)
    return answer({"error": error, **({"error_description": said} if said else {})}, status, headers)


def sayable(description: str) -> str:
    """In a body or, quoted, in a challenge."""
    return _UNSAYABLE.sub("?", redacted(description))


def endpoint(*, repeatable: Collection[str] = (), counter: Counter | None = None) -> Callable[[Answering], View]:
    """Makes a view of a function that answers what was asked or raises OAuth2Error; `counter` has label `outcome`."""

    def as_view(answering: Answering) -> View:
        @csrf_exempt
        @wraps(answering)
        def view(request: PortalRequest) -> HttpResponse:
            if request.method != "POST":
                return refusal("invalid_request", "Use POST.", 405, {"Allow": "POST"})
            outcome = "failed"
            try:
                response = answering(form.read(request, repeatable=repeatable))
                outcome = "granted"
                return response
            except OAuth2Error as error:
                outcome = error.error
                return refusal(error.error, error.description, error.status_code, error.headers)
            finally:
                if counter is not None:
                    counter.labels(outcome=outcome).inc()

        return view

    return as_view
