"""The environment's Token Status Lists as HTTP serves them: public, cacheable for seconds, the same in every worker."""

from math import ceil

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.utils import timezone
from django.utils.cache import get_conditional_response, patch_vary_headers
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.gzip import gzip_page
from django.views.decorators.http import require_safe

from apitokens.status_list import TTL, NoSuchList, photograph
from tenants.models import Environment

MEDIA_TYPE = "application/statuslist+jwt"
ANY_ORIGIN = {"Access-Control-Allow-Origin": "*"}


@csrf_exempt
@require_safe
@gzip_page
def status_list(request: HttpRequest, environment: str, number: int) -> HttpResponseBase:
    """One list (draft-ietf-oauth-status-list section 8), also of a suspended environment, and of a deleted one until it
    is erased: a reader who can't get a list may go on with an old one, and is to learn that everything has ended.
    """
    if "time" in request.GET:
        return HttpResponse("Only today's list is kept.\n", status=501, content_type="text/plain; charset=utf-8")
    at = timezone.now()
    try:
        taken = photograph(_environment(environment), number, at=at)
    except NoSuchList as error:
        raise Http404 from error
    left = TTL - ceil((at - taken.taken_at).total_seconds())
    headers = {**ANY_ORIGIN, "ETag": taken.etag, "Cache-Control": f"public, max-age={left}"}
    response = HttpResponse(taken.jwt, content_type=MEDIA_TYPE, headers=headers)
    patch_vary_headers(response, ["Accept-Encoding"])
    return get_conditional_response(request, etag=taken.etag, response=response) or response


def _environment(slug: str) -> Environment:
    environment = Environment.objects.filter(slug=slug).first()
    if environment is None:
        raise Http404
    return environment
