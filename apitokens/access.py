"""Doors: from a request to a principal. Views start at one, so that no view has to think of strangers."""

from __future__ import annotations

import re
from collections.abc import Collection
from uuid import UUID

from django.db.models import Prefetch, Q, QuerySet
from django.http import Http404

from accounts.confirming import last_proof
from accounts.models import User
from accounts.visits import Visit
from accounts.visits import client_ip as client_ip
from accounts.visits import user_actor as user_actor
from apitokens import credentials
from apitokens.authentication import Authenticated
from apitokens.models import ApiToken, Owner, PortalSession
from apitokens.principals import ConsolePrincipal, MemberPrincipal, Principal
from apitokens.querysets import WITH_EVERYTHING, ApiTokenQuerySet
from audit.actors import Actor
from audit.models import ActorKind
from audit.services import record
from tenants.models import (
    SLUG,
    UUID_FORM,
    Environment,
    Invitation,
    Membership,
    Permission,
    Role,
    Tenant,
    VendorMembership,
)
from tenants.policy import Grantor, PermissionMissing
from tenants.queries import (
    available_roles,
    built_in_permissions,
    grantor_of_membership,
    grantor_of_vendor_membership,
)


class PortalRequest(Visit):
    """What our middleware and doors add to a request; for annotations."""

    principal: MemberPrincipal | ConsolePrincipal
    user: User
    # Whose brand the page wears; without it, ours.
    branded: Environment
    # The slug of the environment in whose embedded pages this is; elsewhere empty.
    embedded_in: str
    portal_session: PortalSession | None
    # Where somebody came from who is in embedded pages, if they can go back.
    return_url: str
    urlconf: str


class SignInElsewhere(Exception):
    """They are a member, and signed in by another way than the tenant has."""


def of_membership(membership: Membership, request: PortalRequest) -> MemberPrincipal:
    """A person in a tenant, with what their roles hold now."""
    return MemberPrincipal(
        actor=user_actor(membership.user, request),
        environment=membership.environment,
        tenant=membership.tenant,
        membership=membership,
        proven_at=last_proof(request, membership.user),
        permissions=grantor_of_membership(membership).permissions,
    )


def of_vendor_membership(
    member: VendorMembership, environment: Environment, request: PortalRequest, tenant: Tenant | None = None
) -> ConsolePrincipal:
    """A person of the vendor, in one environment that they cover, and perhaps in one tenant of it."""
    return ConsolePrincipal(
        actor=user_actor(member.user, request),
        environment=environment,
        tenant=tenant,
        vendor_membership=member,
        proven_at=last_proof(request, member.user),
        permissions=built_in_permissions(environment, member.role),
    )


def grantor_for(principal: MemberPrincipal | ConsolePrincipal) -> Grantor:
    """What a person may hand out as it stands: for showing choices. A service decides anew, under locks."""
    if isinstance(principal, MemberPrincipal):
        return grantor_of_membership(principal.membership)
    return grantor_of_vendor_membership(principal.vendor_membership, principal.environment)


def actor_of_token(token: ApiToken, *, ip: str | None, request_id: str) -> Actor:
    owner = token.membership or token.vendor_membership
    return Actor(
        kind=ActorKind.TOKEN,
        id=token.id,
        label=token.name,
        on_behalf_of=owner.user_id if owner else None,
        ip=ip,
        request_id=request_id,
    )


def of_token(live: Authenticated, request: PortalRequest) -> Principal:
    """A machine. It acts in its tenant; the vendor's own acts in the one that its JWT is bound to, if any."""
    return Principal(
        actor=actor_of_token(live.token, ip=client_ip(request), request_id=request.request_id),
        environment=live.token.environment,
        tenant=live.tenant,
        token=live.token,
        permissions=live.now.permissions,
        scopes=live.scopes,
        is_narrowed=live.is_narrowed,
    )


def require(principal: Principal, permission: str) -> None:
    """Raises PermissionMissing; the denial is an event of whoever knocked (R10)."""
    if principal.holds(permission):
        return
    record(
        actor=principal.actor,
        verb="access.denied",
        target_kind="permission",
        target_id=None,
        environment_id=principal.environment.id,
        tenant_id=principal.tenant.id if principal.tenant else None,
        after={"name": permission},
        refused_because=PermissionMissing.code,
    )
    raise PermissionMissing(permission)


def memberships_of(user: User) -> QuerySet[Membership]:
    """The doors that a person has, in the order of the tenants' names."""
    return (
        Membership.objects.active()
        .with_a_way_in()
        .filter(user=user)
        .select_related("tenant", "environment", "user")
        .order_by("tenant__name", "id")
    )


def open_tenant(request: PortalRequest, slug: str) -> MemberPrincipal:
    """The signed-in person in that tenant. Somebody else's tenant is 404, as one that never existed (R2)."""
    membership = memberships_of(request.user).filter(tenant__slug=slug).first()
    if membership is None:
        if shut_out(request.user).filter(tenant__slug=slug).exists():
            raise SignInElsewhere
        raise Http404
    return of_membership(membership, request)


def shut_out(user: User) -> QuerySet[Membership]:
    """The active memberships that open nothing, since their tenants let people in by single sign-on alone."""
    return Membership.objects.active().filter(
        user=user, user__voucher_id__isnull=True, tenant__identity_provider__is_enforced=True
    )


def environments_of(user: User) -> QuerySet[Environment]:
    """The environments whose console a person can open, suspended ones too: they are reinstated there."""
    members = VendorMembership.objects.active().filter(user=user)
    return Environment.objects.filter(
        Q(vendor__memberships__in=members.filter(in_all_environments=True))
        | Q(vendor_memberships__in=members.filter(in_all_environments=False))
    ).distinct()


def open_environment(request: PortalRequest, slug: str, user: User | None = None) -> ConsolePrincipal:
    """The signed-in person in that environment's console; raises Http404 for one that they do not cover.

    The API names them itself: there the framework has put its caller into the request's `user`.
    """
    user = user or request.user
    if not re.fullmatch(SLUG, slug):  # nor ask PostgreSQL for what no text column can hold
        raise Http404
    environment = environments_of(user).select_related("vendor").filter(slug=slug).first()
    if environment is None:
        raise Http404
    member = VendorMembership.objects.active().select_related("user").get(user=user, vendor=environment.vendor_id)
    return of_vendor_membership(member, environment, request)


def named_tenant(reference: str) -> Q:
    """A tenant by our id or by the vendor's own; the two can't be mistaken for each other (a constraint says so)."""
    if "\0" in reference:  # which PostgreSQL takes in no text
        return Q(pk__in=[])
    return Q(pk=UUID(reference)) if re.fullmatch(UUID_FORM, reference) else Q(external_id=reference)


def find_tenant(environment_tenants: QuerySet[Tenant], reference: str) -> Tenant:
    """Raises Http404 for one that is not among them, or in which nothing works now."""
    working = environment_tenants.filter(suspended_at__isnull=True, deleted_at__isnull=True)
    tenant = working.filter(named_tenant(reference)).first()
    if tenant is None:
        raise Http404
    return tenant


def members_of(principal: Principal) -> QuerySet[Membership]:
    """Those who have not left the tenant in which the principal acts, with their roles, highest first."""
    members = Membership.objects.filter(tenant=principal.tenant, ended_at__isnull=True)
    roles = Prefetch("roles", Role.objects.order_by("-level", "key"))
    return members.select_related("user", "tenant__environment", "environment").prefetch_related(roles)


def open_member(principal: Principal, member_id: UUID) -> Membership:
    """A member of the principal's own tenant; raises Http404."""
    member = members_of(principal).filter(pk=member_id).first() if principal.tenant else None
    if member is None:
        raise Http404
    return member


def vendors_people(principal: Principal) -> QuerySet[VendorMembership]:
    """Everybody who works for the vendor of the principal's environment, with what they cover."""
    people = VendorMembership.objects.filter(vendor=principal.environment.vendor_id, ended_at__isnull=True)
    environments = Prefetch("environments", Environment.objects.order_by("name", "slug"))
    return people.select_related("user", "vendor").prefetch_related(environments)


def open_invitations(principal: Principal) -> QuerySet[Invitation]:
    """What the principal's tenant, or in the whole environment the vendor, has offered and nobody has accepted."""
    found = Invitation.objects.filter(accepted_at__isnull=True, tenant=principal.tenant)
    if principal.tenant is None:
        found = found.filter(vendor=principal.environment.vendor_id)
    roles = Prefetch("roles", Role.objects.order_by("-level", "key"))
    environments = Prefetch("environments", Environment.objects.order_by("name", "slug"))
    return found.select_related("tenant__environment", "vendor").prefetch_related(roles, environments)


def open_invitation(principal: Principal, invitation_id: UUID) -> Invitation:
    """One that nobody has accepted yet; raises Http404."""
    invitation = open_invitations(principal).filter(pk=invitation_id).first()
    if invitation is None:
        raise Http404
    return invitation


def open_person(principal: Principal, member_id: UUID) -> VendorMembership:
    """Somebody who works for the same vendor; raises Http404."""
    person = vendors_people(principal).filter(pk=member_id).first()
    if person is None:
        raise Http404
    return person


def named_like(text: str) -> Q:
    """Members and vendor's people whose name or e-mail has the text in it."""
    if "\0" in text:  # which PostgreSQL takes in no text
        return Q(pk__in=[])
    return Q(user__name__icontains=text) | Q(user__email__icontains=text)


def visible_tenants(principal: Principal) -> QuerySet[Tenant]:
    """The tenants of the environment, or the one in which the principal acts; suspended and deleted ones too."""
    tenants = Tenant.objects.filter(environment=principal.environment).select_related("environment")
    return tenants if principal.tenant is None else tenants.filter(pk=principal.tenant.pk)


def visible_tokens(principal: Principal) -> ApiTokenQuerySet:
    """The tokens a principal may see at all, by the permissions it holds. Others do not exist for it.

    A person sees the tenant's and their own personal ones, and with `members:read` also those of the other members;
    the vendor's people and an environment's token see those of the whole environment.
    """
    tokens = ApiToken.objects.filter(environment=principal.environment)
    if principal.tenant is not None:
        tokens = tokens.filter(tenant=principal.tenant)
    if principal.acts_for_environment:
        own = Q(owner=Owner.USER)
    else:
        own = Q(owner=Owner.USER, membership=principal.member) if principal.member else Q(pk__in=[])
    seen = Q(pk__in=[])
    if principal.holds("apitokens:read"):
        seen |= Q(owner=Owner.TENANT)
    if principal.holds("personal-apitokens:read"):
        seen |= own
    if principal.holds("members:read"):
        seen |= Q(owner=Owner.USER, tenant__isnull=False)
    if principal.holds("environment-tokens:read"):
        seen |= Q(owner=Owner.ENVIRONMENT)
    return tokens.filter(seen)


def sees_deleted(principal: Principal, *, owner: str | None, tenant_id: UUID | None) -> bool:
    """The same of a token that is gone, by what the record keeps. Whose a personal one was it does not: no `own`."""
    if principal.tenant is not None and principal.tenant.id != tenant_id:
        return False
    if owner == Owner.TENANT:
        return principal.holds("apitokens:read")
    if owner == Owner.ENVIRONMENT:
        return principal.holds("environment-tokens:read")
    return owner == Owner.USER and tenant_id is not None and principal.holds("members:read")


def sees_flags(principal: Principal) -> bool:
    """Whether it is told what to look at about tokens, which is about other people too (`flags`)."""
    return principal.acts_for_environment or principal.holds("members:read")


def open_token(principal: Principal, token_id: str) -> ApiToken:
    """One of the visible tokens, with its standing; raises Http404."""
    if not credentials.TOKEN_ID.fullmatch(token_id):
        raise Http404
    visible: ApiTokenQuerySet = visible_tokens(principal).with_standing().with_suspicions().with_last_four()
    token: ApiToken | None = visible.filter(token_id=token_id).first()
    if token is None:
        raise Http404
    return token


def with_everything(token: ApiToken) -> ApiToken:
    """The row again, as it is now, with its standing and its secrets: what representations read; raises Http404."""
    if (fresh := WITH_EVERYTHING.first(pk=token.pk)) is None:
        raise Http404
    return fresh


def visible_roles(principal: Principal) -> QuerySet[Role]:
    """The vendor's roles and those of the principal's tenant; for who acts for the environment those of all tenants."""
    if principal.tenant is not None:
        return available_roles(principal.environment, principal.tenant).select_related("tenant", "environment")
    return Role.objects.filter(environment=principal.environment).select_related("tenant", "environment")


def open_role(principal: Principal, role_id: UUID) -> Role:
    """One of the visible roles; raises Http404."""
    role = visible_roles(principal).filter(pk=role_id).first()
    if role is None:
        raise Http404
    return role


def visible_permissions(principal: Principal) -> QuerySet[Permission]:
    """Those of the environment; to a tenant those that its roles and tokens can have any use for."""
    found = Permission.objects.filter(environment=principal.environment)
    if principal.tenant is not None:
        found = found.filter(Q(for_tenant_tokens=True) | Q(for_personal_tokens=True))
    return found


def open_permission(principal: Principal, permission_id: UUID) -> Permission:
    """One of the visible permissions; raises Http404."""
    permission = visible_permissions(principal).filter(pk=permission_id).first()
    if permission is None:
        raise Http404
    return permission


def only_visible(principal: Principal, token_ids: Collection[str]) -> set[str]:
    """Of these tokens those that the principal may see: what is counted need not be named."""
    found = visible_tokens(principal).filter(token_id__in=token_ids)
    return set(found.values_list("token_id", flat=True))
