"""Who asks, once authenticated: a person in a tenant, a token, or the system itself."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

from audit.actors import SYSTEM, Actor

if TYPE_CHECKING:
    from apitokens.models import ApiToken
    from tenants.models import Environment, Membership, Tenant, VendorMembership


@dataclass(frozen=True, kw_only=True)
class Principal:
    """`permissions` are what it held when it knocked: enough for a door. A grant reads them again, under locks (R3).

    `tenant` is None for what acts for its whole environment. `scopes` are what a JWT was narrowed to, else None.
    """

    actor: Actor
    environment: Environment
    tenant: Tenant | None
    permissions: frozenset[str]
    membership: Membership | None = None
    vendor_membership: VendorMembership | None = None
    # When the person last showed who they are, in the session in which they ask.
    proven_at: datetime | None = None
    token: ApiToken | None = None
    scopes: frozenset[str] | None = None
    # A JWT narrowed when it was issued: it claims no roles and grants none.
    is_narrowed: bool = False
    is_system: bool = False
    # What Django REST framework asks of a request's user.
    is_authenticated: bool = True

    def holds(self, permission: str) -> bool:
        return self.is_system or permission in self.permissions

    @property
    def person_id(self) -> UUID | None:
        """The person who acts themselves, not through a token."""
        return self.actor.id if self.membership or self.vendor_membership else None

    @property
    def member(self) -> Membership | None:
        """The member of a tenant who acts, themselves or by a personal token."""
        return self.membership or (self.token.membership if self.token else None)

    @property
    def acts_for_environment(self) -> bool:
        """Whether it is of the vendor: a person, a token of the environment, the system. Others act in a tenant."""
        is_environments = self.token is not None and self.token.owner == "environment"
        return self.is_system or self.vendor_membership is not None or is_environments


@dataclass(frozen=True, kw_only=True)
class MemberPrincipal(Principal):
    """A person, who is always somewhere: in a tenant, by a membership."""

    tenant: Tenant
    membership: Membership


@dataclass(frozen=True, kw_only=True)
class ConsolePrincipal(Principal):
    """A person of the vendor, in one of the environments that they cover. `tenant` is None unless they chose one."""

    vendor_membership: VendorMembership


def system(environment: Environment, *, actor: Actor = SYSTEM) -> Principal:
    """For commands run by the operator, who needs nobody's leave."""
    return Principal(actor=actor, environment=environment, tenant=None, permissions=frozenset(), is_system=True)
