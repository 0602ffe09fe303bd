"""The first page of an environment: what is set up, what is not yet, and how much there is."""

from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from apitokens import setup
from apitokens.models import ApiToken, TokenType
from apitokens.pages.places import PageRequest, Place
from apitokens.principals import ConsolePrincipal
from console.doors import console_page
from tenants.models import Environment, Membership, Permission, RolePermission, Tenant

COUNTED_TO = 1_000


@dataclass(frozen=True, kw_only=True)
class Step:
    label: str
    help: str
    url: str
    is_done: bool


@dataclass(frozen=True, kw_only=True)
class Count:
    label: str
    number: str
    url: str


@require_safe
def overview(request: PageRequest, principal: ConsolePrincipal) -> HttpResponse:
    environment = principal.environment
    steps = _steps(environment, request.place)
    context = {
        "environment": environment,
        "steps": steps,
        "done": sum(step.is_done for step in steps),
        "counts": _counts(environment, request.place),
    }
    return render(request, "console/overview.html", context)


def _steps(environment: Environment, place: Place) -> list[Step]:
    own = Permission.objects.filter(environment=environment, is_built_in=False)
    held = RolePermission.objects.filter(environment=environment, permission__is_built_in=False)
    has_tokens = ApiToken.objects.filter(environment=environment).exists()
    types = TokenType.objects.filter(environment=environment)
    as_born = all(getattr(row, name) == value for row in types for name, value in setup.born_with(row.owner).items())
    return [
        Step(
            label=_("Permissions"),
            help=_("Name what your API lets a caller do, such as reports:read."),
            url=place.url("permissions"),
            is_done=own.exists(),
        ),
        Step(
            label=_("Roles"),
            help=_("Say which role holds which of your permissions. Four roles are there to start from."),
            url=place.url("roles"),
            is_done=held.exists(),
        ),
        Step(
            label=_("Token types"),
            help=_("Look at which tokens may exist and how long they live. The defaults are careful ones."),
            url=place.url("token-types"),
            is_done=has_tokens or not as_born,
        ),
        Step(
            label=_("A tenant"),
            help=_("Make your first customer, and invite their admin."),
            url=place.url("tenants"),
            is_done=Tenant.objects.filter(environment=environment).exists(),
        ),
        Step(
            label=_("A token"),
            help=_("Make one for your backend here, or let the tenant's admin make theirs in the portal."),
            url=place.url("tokens"),
            is_done=has_tokens,
        ),
    ]


def _counts(environment: Environment, place: Place) -> list[Count]:
    tenants = Tenant.objects.filter(environment=environment, deleted_at__isnull=True)
    members = Membership.objects.filter(environment=environment, ended_at__isnull=True)
    tokens = ApiToken.objects.filter(environment=environment)
    return [
        Count(label=_("Tenants"), number=_up_to(tenants), url=place.url("tenants")),
        Count(label=_("Members of tenants"), number=_up_to(members), url=""),
        Count(label=_("API tokens"), number=_up_to(tokens), url=place.url("all-tokens")),
    ]


def _up_to(rows: QuerySet[Any]) -> str:
    """A number for people, which costs no more to find in an environment of millions."""
    found = rows.order_by()[: COUNTED_TO + 1].count()
    return str(found) if found <= COUNTED_TO else _("over %d") % COUNTED_TO


urlpatterns = [path("", console_page("environments:read")(overview), name="overview")]
