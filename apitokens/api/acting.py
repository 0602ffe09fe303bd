"""Who calls, where, and what they have seen: what every endpoint starts from."""

from dataclasses import replace
from typing import TypeVar
from uuid import UUID

from django.http import Http404, QueryDict
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter
from rest_framework.request import Request
from rest_framework.response import Response

from apitokens import access
from apitokens.api.authentication import Caller
from apitokens.finding import Chosen, StateFilter
from apitokens.models import Kind, Owner
from apitokens.orders import InvalidField
from apitokens.paging import Sort
from apitokens.principals import Principal
from audit.services import Refusal
from tenants.models import Tenant

Row = TypeVar("Row")

ENVIRONMENT = OpenApiParameter("environment", description="Slug. People of the vendor name it; tokens imply it.")
TENANT = OpenApiParameter("tenant", description="Id or external id. Sessions and environment-owned tokens name it.")
TENANT_TO_READ = OpenApiParameter(
    "tenant", description="Id or external id. Members name theirs; the vendor's may, also one that is suspended."
)
OWNER = OpenApiParameter("owner", enum=Owner.values, description="Only tokens of this owner.")
USABLE = OpenApiParameter("usable", enum=["true"], description="Only tokens that work at this moment.")
NONCE = OpenApiParameter("Idempotency-Key", location="header", description="Used again, it makes nothing.")
IF_MATCH = OpenApiParameter(
    "If-Match", location="header", description="The ETag of what you have seen: changed since, the answer is 412."
)
DRY_RUN = OpenApiParameter("dry_run", enum=["true"], description="Say what it would do, and do nothing.")

ALL_TENANTS = OpenApiParameter(
    "all_tenants", enum=["true"], description="Of the whole environment, for the vendor's, who then name no tenant."
)
COMPROMISED = OpenApiParameter("compromised", enum=["true"], description="It leaked: delete also what it made.")
CHOSEN = [
    OpenApiParameter("kind", enum=Kind.values, description="Only tokens of this kind."),
    OpenApiParameter("role", description="Only tokens that were granted this role, by its key or id."),
    OpenApiParameter("creator", OpenApiTypes.UUID, description="Only tokens that this person made."),
    OpenApiParameter("parent", description="Only tokens that this token made."),
    OpenApiParameter("state", enum=[state.value for state in StateFilter], description="Only tokens in this state."),
    OpenApiParameter("never_used", enum=["true"], description="Only tokens that were never used."),
    OpenApiParameter("expiring", enum=["true"], description="Only tokens that expire within the next 30 days."),
    OpenApiParameter(
        "q", description="Only tokens whose name begins so, or with this id, client id or last four characters."
    ),
]
SORT = OpenApiParameter(
    "sort",
    enum=[sort.value for sort in Sort],
    description=(
        "A field, with a minus the greatest first; `-created_at` by default. Never used is before every use, never "
        "expiring after every expiry. With `all_tenants` by `created_at` only."
    ),
)


class TenantMissing(InvalidField):
    code = "tenant_missing"

    def __init__(self) -> None:
        super().__init__("tenant", "Name the tenant, by its id or external id.")


class NeedsToken(Refusal):
    code = "needs_token"

    def __init__(self) -> None:
        super().__init__("This is about the token that a request carries, and this request carries none.")


class ApiRequest(Request):
    """A request whose caller our authenticator has found; for annotations."""

    # The framework expects a user and takes whatever the authenticator gives.
    user: Caller  # type: ignore[assignment]
    _request: access.PortalRequest


def principal_of(request: ApiRequest, reference: str | None) -> Principal:
    """The caller, in the tenant it named or that its credential implies; raises TenantMissing and Http404.

    A person of the vendor names their environment, by its slug, and perhaps a tenant of it.
    """
    caller = request.user
    if caller.user is not None and (slug := request.GET.get("environment")):
        vendors = access.open_environment(request._request, slug, caller.user)
        if not reference:
            return vendors
        return replace(vendors, tenant=access.find_tenant(vendors.environment.tenants.all(), reference))
    if caller.user is not None:
        if not reference:
            raise TenantMissing
        memberships = access.memberships_of(caller.user).filter(
            tenant__in=Tenant.objects.filter(access.named_tenant(reference))
        )
        found = list(memberships[:2])
        if len(found) > 1:
            # The vendor may know one customer by the same id in two environments.
            raise InvalidField("tenant", "You are in two tenants of this external id: name it by our id.")
        return access.of_membership(or_404(found[0] if found else None), request._request)
    principal = access.of_token(caller.token(), request._request)
    if request.GET.get("environment", principal.environment.slug) != principal.environment.slug:
        raise Http404
    if not reference:
        return principal
    reachable = principal.environment.tenants.all()
    if principal.tenant is not None:
        reachable = reachable.filter(pk=principal.tenant.pk)
    return replace(principal, tenant=access.find_tenant(reachable, reference))


def or_404(row: Row | None) -> Row:
    if row is None:
        raise Http404
    return row


def principal_named(request: ApiRequest) -> Principal:
    """The caller in the tenant that `?tenant=` names, else in that of its credential or in its whole environment."""
    return principal_of(request, request.GET.get("tenant"))


def principal_reading(request: ApiRequest) -> Principal:
    """As everywhere, but whoever sees the environment also reads of a tenant that is stopped now."""
    reference = request.GET.get("tenant")
    if request.user.user is None or request.GET.get("environment"):
        principal = principal_of(request, None)
        if principal.tenant is None and reference:
            tenants = principal.environment.tenants.filter(access.named_tenant(reference))
            return replace(principal, tenant=or_404(tenants.first()))
    return principal_of(request, reference)


def principal_of_environment(request: ApiRequest) -> Principal:
    """The caller for what belongs to a whole environment. A person names it; raises InvalidField when they don't.

    Whether the caller reaches beyond its own tenant is for the service to say.
    """
    if request.user.user is not None and not request.GET.get("environment"):
        raise InvalidField("environment", "Name the environment, by its slug.")
    return principal_of(request, None)


def chosen_in(query: QueryDict) -> Chosen:
    """Which tokens an address asks for; raises InvalidField."""

    def text(name: str) -> str:
        return str(query.get(name) or "")

    try:
        creator = UUID(text("creator")) if text("creator") else None
    except ValueError as error:
        raise InvalidField("creator", "Name the person by their id.") from error
    return Chosen(
        owner=text("owner"),
        kind=text("kind"),
        role=text("role"),
        creator=creator,
        parent=text("parent"),
        state=text("state"),
        never_used=text("never_used") == "true",
        expiring=text("expiring") == "true",
        q=text("q"),
    )


def is_dry_run(request: ApiRequest) -> bool:
    return request.GET.get("dry_run") == "true"


def expected_version(request: ApiRequest) -> list[str] | None:
    """The versions in `If-Match` (RFC 9110 section 13.1.1); None without the header, or for any version at all."""
    header = request.headers.get("If-Match")
    if header is None or header.strip() == "*":
        return None
    return [tag.strip().removeprefix("W/").strip('"') for tag in header.split(",")]


def with_version(body: object, version: str, status: int = 200) -> Response:
    return Response(body, status=status, headers={"ETag": f'"{version}"', "Cache-Control": "no-store"})
