"""R2, R3, R4 and R6 in any order of anything: a machine that invites, promotes, edits, issues, suspends and deletes.

After every step the database is asked, by queries of this file's own and never by the policy that it checks: nobody
granted what they lacked, nobody's personal token has what they lack now, nothing crossed a wall, nothing deleted works.

Orders are found again by their seed: `make fuzz` says it, `make test` always takes the same one.
"""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import time_machine
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from apitokens import policy, rotation, services
from apitokens.access import visible_tokens
from apitokens.governance import invitations, members, permissions, roles, tenants, token_types
from apitokens.models import ApiToken, Kind, Owner, TokenType
from apitokens.orders import Expiry, Grant, Order
from apitokens.principals import ConsolePrincipal, Principal
from apitokens.querysets import standing
from audit.actors import Actor
from audit.models import ActorKind
from audit.services import Refusal
from tenants.models import Membership, MembershipRole, Permission, Role, RolePermission, Tenant, VendorMembership
from tenants.queries import built_in_permissions, grantor_of_membership
from tests.cast import basic, bearer, grant
from tests.factories import UserFactory, VendorMembershipFactory

STEPS = 50
FUZZ_EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "0"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
# Parts run beside each other, each with a seed of its own.
PARTS = 10 if FUZZ_EXAMPLES else 1
# On PostgreSQL, where each step takes longer, fewer: the rules are the same, and its locks have tests of their own.
EXAMPLES = (FUZZ_EXAMPLES or (200 if connection.vendor == "sqlite" else 20)) // PARTS
# Of each kind of step, accepted and refused. Few examples need not have seen them all.
AT_LEAST = 20 if EXAMPLES >= 200 else 0
ROLE_KEYS = ("viewer", "member", "admin", "owner", "own:robots")
DOMAIN = ("reports:read", "reports:write", "settings:manage", "billing:manage")
ANY = st.integers(0, 10_000)
HOURS = (1, 24, 8 * 24)


# Rows on two sides of a wall: asked of the tables themselves.
WALLS = (
    "SELECT 1 FROM apitokens_apitoken t JOIN tenants_tenant o ON o.id = t.tenant_id"
    " WHERE o.environment_id <> t.environment_id",
    "SELECT 1 FROM apitokens_apitoken t JOIN tenants_membership m ON m.id = t.membership_id"
    " WHERE m.tenant_id <> t.tenant_id",
    "SELECT 1 FROM apitokens_apitokenrole tr JOIN apitokens_apitoken t ON t.id = tr.token_id"
    " JOIN tenants_role r ON r.id = tr.role_id"
    " WHERE r.environment_id <> t.environment_id OR r.tenant_id IS NOT NULL AND r.tenant_id <> t.tenant_id",
    "SELECT 1 FROM tenants_membershiprole mr JOIN tenants_membership m ON m.id = mr.membership_id"
    " JOIN tenants_role r ON r.id = mr.role_id"
    " WHERE r.environment_id <> m.environment_id OR r.tenant_id IS NOT NULL AND r.tenant_id <> m.tenant_id",
)


@dataclass
class Given:
    """What this file remembers of a token: its secrets, and what whoever granted it held then (None: everything).

    `live` are those that should work, oldest first, each with its deadline; `dead` those that worked once.
    """

    plaintext: str
    ceiling: frozenset | None
    live: list = field(default_factory=list)
    dead: list = field(default_factory=list)

    def __post_init__(self):
        self.live = [(self.plaintext, None)]

    def live_at(self, at):
        return [(plaintext, deadline) for plaintext, deadline in self.live if deadline is None or deadline > at]

    def set_live(self, live):
        kept = [plaintext for plaintext, _ in live]
        self.dead = [*self.dead, *(plaintext for plaintext, _ in self.live if plaintext not in kept)][-3:]
        self.live, self.plaintext = live, kept[-1]


@dataclass
class Tally:
    accepted: Counter = field(default_factory=Counter)
    refused: Counter = field(default_factory=Counter)


tally = Tally()


def held_by_roles(of_roles):
    """What the roles hold at this moment."""
    keys = RolePermission.objects.filter(role__in=of_roles).values_list("permission__key", flat=True)
    return frozenset(keys)


def held_by(membership):
    return held_by_roles(Role.objects.filter(membership_roles__membership=membership))


class AnyOrder(RuleBasedStateMachine):
    """One environment with two tenants, and a second environment; the fixture `world` brings them."""

    world = None
    reading = ()

    def __init__(self):
        super().__init__()
        self.example = transaction.atomic()
        # As Django marks its own tests' transactions, so that what must be durable in production may run in it.
        self.example._from_testcase = True
        self.example.__enter__()
        self.at = timezone.now()
        self.given = {}
        self.deleted = []
        self.number = self.looked = 0
        # A refused step is rolled back by `attempt` itself: what was true before it is true after it.
        self.has_changed = True
        self.client = Client()
        vendor = self.world.vendor
        self.vendors = [VendorMembershipFactory(vendor=vendor, role=role) for role in ("owner", "admin", "auditor")]
        self.houses = [self.world.acme, self.world.globex, self.world.acme_staging]
        for house in self.houses:
            own = Role.objects.create(
                environment=house.environment, tenant=house.tenant, key="own:robots", name="Robots", level=15
            )
            permission = house.environment.permissions.get(key="reports:read")
            RolePermission.objects.create(role=own, permission=permission, environment=house.environment)
            self.make_some(house)

    def make_some(self, house):
        """A few tokens to begin with: in some orders nobody makes any."""
        for person, asked in (
            ("owner", {"roles": ["member"]}),
            ("member", {"owner": "user"}),
            ("admin", {"owner": "user", "roles": ["viewer"]}),
        ):
            ceiling = held_by(house.people[person])
            issued = house.issue(person, name=self.fresh_name("token"), kind=Kind.values[self.number % 2], **asked)
            self.given[issued.token.pk] = Given(issued.plaintext, ceiling)

    def teardown(self):
        self.one_answer_says_what_works()
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    # Who acts, on what: by number, so that an example can be made smaller.

    def fresh_name(self, word):
        self.number += 1
        return f"{word} {self.number}"

    def house(self, n):
        return self.houses[n % len(self.houses)]

    def members_of(self, house):
        members = Membership.objects.filter(tenant=house.tenant).select_related("tenant", "environment", "user")
        return list(members.order_by("user__created_at", "id"))

    def member(self, house, n):
        found = self.members_of(house)
        return found[n % len(found)]

    def person(self, membership):
        """A member as they come through the door; who cannot come through acts by an old page of theirs."""
        actor = Actor(kind=ActorKind.USER, id=membership.user_id, label=str(membership.user))
        return Principal(
            actor=actor,
            environment=membership.environment,
            tenant=membership.tenant,
            membership=membership,
            proven_at=self.at,
            permissions=grantor_of_membership(membership).permissions,
        )

    def vendor(self, house, n):
        member = VendorMembership.objects.select_related("user").get(pk=self.vendors[n % 3].pk)
        return ConsolePrincipal(
            actor=Actor(kind=ActorKind.USER, id=member.user_id, label="vendor"),
            environment=house.environment,
            tenant=None,
            vendor_membership=member,
            proven_at=self.at,
            permissions=built_in_permissions(house.environment, member.role),
        )

    def actor(self, house, n):
        """A member of the house or, one time in four, somebody of the vendor: of the owner, for the small numbers."""
        return self.vendor(house, n // 4) if n % 4 == 0 else self.person(self.member(house, n))

    def ceiling_of(self, by):
        if by.vendor_membership is not None:
            return None
        return held_by(by.membership)

    def role_keys(self, ns):
        return tuple(dict.fromkeys(ROLE_KEYS[n % len(ROLE_KEYS)] for n in ns))

    def role(self, house, n):
        in_reach = Role.objects.filter(environment=house.environment).filter(tenant__isnull=True) | Role.objects.filter(
            tenant=house.tenant
        )
        found = list(in_reach.exclude(key="backend").order_by("level", "key"))
        return found[n % len(found)]

    def token(self, n):
        """Any token at all; None while there is none."""
        found = list(ApiToken.objects.filter(pk__in=self.given).order_by("name"))
        return found[n % len(found)] if found else None

    def attempt(self, kind, act):
        """Do it or be refused; either is counted. Anything but a refusal is a fault."""
        try:
            with transaction.atomic():
                done = act()
        except Refusal:
            tally.refused[kind] += 1
            return None
        tally.accepted[kind] += 1
        self.has_changed = True
        return done

    # The steps.

    @rule(h=ANY, who=ANY, asked=st.lists(ANY, min_size=1, max_size=2))
    def invite(self, h, who, asked):
        house = self.house(h)
        by, person = self.actor(house, who), UserFactory()

        def act():
            invited = invitations.invite(
                by=by, tenant=house.tenant, email=person.email, roles=self.role_keys(asked), at=self.at
            )
            key = invited.link.rstrip("/").rsplit("/", 1)[-1]
            return invitations.accept(key=key, user=person, at=self.at)

        self.attempt("invite", act)

    @rule(h=ANY, who=ANY, whom=ANY, asked=st.lists(ANY, min_size=0, max_size=2))
    def change_roles(self, h, who, whom, asked):
        house = self.house(h)
        by = self.actor(house, who) if whom % 2 else self.vendor(house, who)
        # Who has left has no roles to change: now and then somebody asks nevertheless.
        here = [member for member in self.members_of(house) if member.ended_at is None] if whom % 4 else []
        member, keys = here[whom % len(here)] if here else self.member(house, whom), self.role_keys(asked)
        now = max(member.roles.values_list("level", flat=True), default=-1)
        then = max(
            Role.objects.filter(environment=house.environment, key__in=keys).values_list("level", flat=True), default=-1
        )
        kind = "promote" if then > now else "demote"
        self.attempt(kind, lambda: members.change_roles(by=by, membership=member, roles=keys, at=self.at))

    @rule(h=ANY, who=ANY)
    def leave(self, h, who):
        by = self.person(self.member(self.house(h), who))
        self.attempt("leave", lambda: members.leave(by=by, at=self.at))

    @rule(h=ANY, who=ANY, whom=ANY, verb=st.sampled_from(["suspend", "reinstate", "remove"]))
    def stop_member(self, h, who, whom, verb):
        house = self.house(h)
        by, member = self.actor(house, who), self.member(house, whom)
        self.attempt("suspend member", lambda: getattr(members, verb)(by=by, membership=member, at=self.at))

    @rule(h=ANY, who=ANY, verb=st.sampled_from(["suspend", "reinstate"]))
    def stop_tenant(self, h, who, verb):
        house = self.house(h)
        by = self.person(self.member(house, who)) if who % 5 == 4 else self.vendor(house, who)
        tenant = Tenant.objects.get(pk=house.tenant.pk)
        self.attempt("suspend tenant", lambda: getattr(tenants, verb)(by=by, tenant=tenant, at=self.at))

    @rule(
        h=ANY, who=ANY, which=ANY, level=st.sampled_from([0, 5, 15, 20, 30, 40, 40_000]), held=st.sets(ANY, max_size=4)
    )
    def edit_role(self, h, who, which, level, held):
        house = self.house(h)
        by, edited = self.actor(house, who), self.role(house, which)
        # What it keeps of our own permissions, so that pages stay open; what it holds of the vendor's is drawn.
        ours = edited.permissions.filter(is_built_in=True).values_list("key", flat=True)
        keys = [*ours, *sorted({DOMAIN[n % len(DOMAIN)] for n in held})]
        change = roles.RoleChange(level=level, permissions=tuple(keys))
        self.attempt("edit role", lambda: roles.edit(by=by, role=edited, change=change, at=self.at))

    @rule(h=ANY, who=ANY, which=ANY, flag=st.booleans(), anew=st.booleans())
    def edit_permission(self, h, who, which, flag, anew):
        house = self.house(h)
        by = self.vendor(house, who) if which % 2 else self.actor(house, who)
        found = Permission.objects.filter(environment=house.environment, key__in=DOMAIN).order_by("key")
        if anew or not found:
            missing = [key for key in DOMAIN if key not in {row.key for row in found}]
            key = missing[0] if missing else DOMAIN[which % len(DOMAIN)]
            self.attempt("edit permission", lambda: permissions.create(by=by, key=key, at=self.at))
            return
        chosen = found[which % len(found)]
        if which % 5 == 0:
            self.attempt(
                "edit permission", lambda: permissions.delete(by=by, permission=chosen, at=self.at, force=flag)
            )
        else:
            change = permissions.PermissionChange(for_personal_tokens=flag)
            self.attempt(
                "edit permission", lambda: permissions.edit(by=by, permission=chosen, change=change, at=self.at)
            )

    @rule(
        h=ANY,
        who=ANY,
        which=ANY,
        on=st.booleans(),
        days=st.sampled_from([0, 1, 30, 365]),
        existing=st.sampled_from(["leave", "cap", "disable"]),
    )
    def edit_token_type(self, h, who, which, on, days, existing):
        house = self.house(h)
        by = self.vendor(house, who) if which % 2 else self.actor(house, who)
        found = list(TokenType.objects.filter(environment=house.environment).order_by("owner", "kind"))
        lifetime = days * 86_400
        change = token_types.TypeChange(is_enabled=on, default_lifetime=lifetime, longest_lifetime=lifetime)
        self.attempt(
            "edit token type",
            lambda: token_types.change(
                by=by, token_type=found[which % len(found)], change=change, at=self.at, existing=existing
            ),
        )

    @rule(
        h=ANY, who=ANY, asked=st.lists(ANY, max_size=2), picked=st.lists(ANY, max_size=2),
        owner=st.sampled_from(["tenant", "tenant", "user", "environment"]), kind=st.sampled_from(Kind.values),
        hours=st.sampled_from([None, *HOURS]),
    )  # fmt: skip
    def issue(self, h, who, owner, kind, asked, picked, hours):
        house = self.house(h)
        by = self.actor(house, who)
        if owner == Owner.ENVIRONMENT:
            by = self.vendor(house, who)
        elif by.vendor_membership:
            by = self.person(self.member(house, who))
        order = Order(
            owner=owner,
            kind=kind,
            name=self.fresh_name("token"),
            grant=Grant(
                roles=self.role_keys(asked), permissions=() if asked else tuple(sorted({DOMAIN[n % 4] for n in picked}))
            ),
            expiry=Expiry(seconds=hours * 3600) if hours else Expiry(),
            membership=by.membership,
        )
        ceiling = self.ceiling_of(by)
        tenant = None if owner == Owner.ENVIRONMENT else house.tenant
        issued = self.attempt("issue", lambda: services.issue(by=by, tenant=tenant, order=order, at=self.at))
        if issued:
            self.given[issued.token.pk] = Given(issued.plaintext, ceiling)

    @rule(n=ANY, who=ANY, asked=st.lists(ANY, min_size=1, max_size=2))
    def regrant(self, n, who, asked):
        token = self.token(n)
        if token is None:
            return
        by = self.actor(self.house_of(token), who)
        ceiling = self.ceiling_of(by)
        grant_asked = Grant(roles=self.role_keys(asked))
        if self.attempt("edit token", lambda: services.edit(by=by, token=token, at=self.at, grant=grant_asked)):
            self.given[token.pk].ceiling = ceiling

    @rule(
        n=ANY, who=ANY, overlap=st.sampled_from([None, 0, 3600, 2 * 86_400, 31 * 86_400]),
        compromised=st.sampled_from([False, False, False, True]),
    )  # fmt: skip
    def rotate(self, n, who, overlap, compromised):
        token = self.token(n)
        if token is None:
            return
        by = self.actor(self.house_of(token), who)
        self.rotate_by(by, token, 0 if compromised else overlap, compromised=compromised)

    def rotate_by(self, by, token, overlap, *, compromised=False):
        asked = {"overlap": overlap, "compromised": compromised}
        if issued := self.attempt("rotate", lambda: rotation.rotate(by=by, token=token, at=self.at, **asked)):
            given = self.given[token.pk]
            deadline = self.at + timedelta(seconds=86_400 if overlap is None else overlap)
            deadline = min(deadline, token.expires_at or deadline)
            old = [(plaintext, deadline) for plaintext, _ in given.live_at(self.at)] if overlap != 0 else []
            given.set_live([*old, (issued.plaintext, None)])

    @rule(n=ANY, who=ANY, verb=st.sampled_from(["complete", "cancel"]))
    def end_rotation(self, n, who, verb):
        token = self.rotated(n)
        if token is None:
            return
        by, given = self.actor(self.house_of(token), who), self.given[token.pk]
        act = rotation.complete if verb == "complete" else rotation.cancel
        if self.attempt(verb, lambda: act(by=by, token=token, at=self.at)):
            old, new = given.live_at(self.at)
            given.set_live([new] if verb == "complete" else [(old[0], None)])

    def rotated(self, n):
        """One with two secrets, which whoever may surely makes where there is none; now and then any token at all."""
        under_way = [pk for pk, given in self.given.items() if len(given.live_at(self.at)) > 1]
        found = list(ApiToken.objects.filter(pk__in=under_way).order_by("name"))
        if found and n % 5:
            return found[n % len(found)]
        token = self.token(n)
        if token is not None and n % 5:
            by = self.person(token.membership) if token.membership else self.vendor(self.house_of(token), 0)
            self.rotate_by(by, token, 2 * 86_400)
        return token

    @rule(n=ANY, who=ANY, on=st.booleans())
    def disable_or_enable(self, n, who, on):
        token = self.token(n)
        if token is None:
            return
        by, act = self.actor(self.house_of(token), who), services.enable if on else services.disable
        self.attempt("enable" if on else "disable", lambda: act(by=by, token=token, at=self.at))

    @rule(n=ANY, who=ANY)
    def delete(self, n, who):
        token = self.token(n)
        if token is None:
            return
        by = self.actor(self.house_of(token), who)
        if self.attempt("delete", lambda: services.delete(by=by, token=token, at=self.at) or True):
            self.deleted.append((token.client_id, token.kind, self.given.pop(token.pk).plaintext))

    @rule(n=ANY, elsewhere=st.booleans(), which=ANY)
    def use(self, n, elsewhere, which):
        """Over HTTP, as its holder would, with any of its secrets; in somebody else's tenant, where it is refused."""
        token = self.token(n)
        if token is None:
            return
        row = ApiToken.objects.with_standing().get(pk=token.pk)
        now = policy.effective_permissions(policy.Standing.of(row))
        given = self.given[token.pk]
        live = [plaintext for plaintext, _ in given.live_at(self.at)]
        known = [*(plaintext for plaintext, _ in given.live), *given.dead]
        plaintext = known[which % len(known)]
        works = plaintext in live and policy.state(row, now, at=self.at) == policy.State.USABLE
        with time_machine.travel(self.at, tick=False):
            answer = self.present(token, plaintext)
            if elsewhere and works and token.tenant_id and token.kind == Kind.ACCESS_TOKEN:
                other = next(house for house in self.houses if house.tenant.pk != token.tenant_id)
                address = f"/api/v1/tokens?tenant={other.tenant.id}"
                assert self.client.get(address, headers=bearer(plaintext)).status_code == 404
        assert (answer.status_code == 200) == works, answer.content
        (tally.accepted if works else tally.refused)["use"] += 1

    @rule(hours=st.sampled_from(HOURS))
    def move_the_clock(self, hours):
        self.at += timedelta(hours=hours)
        tally.accepted["move the clock"] += 1
        self.has_changed = True

    def house_of(self, token):
        return next(
            (house for house in self.houses if house.tenant.pk == token.tenant_id),
            next(house for house in self.houses if house.environment.pk == token.environment_id),
        )

    def present(self, token, plaintext):
        if token.kind == Kind.ACCESS_TOKEN:
            return self.client.get("/api/v1/token/self", headers=bearer(plaintext))
        return grant(self.client, services.Issued(token=token, plaintext=plaintext))

    # What is true after every step.

    @invariant()
    def all_is_as_it_should_be(self):
        if self.has_changed:
            self.nobody_has_more_than_was_theirs_to_give()
            self.nothing_crosses_a_wall()
            self.nothing_deleted_works()
        self.has_changed = False

    def nobody_has_more_than_was_theirs_to_give(self):
        rows = self.rows_with_standing()
        owners = {row.membership_id for row in rows if row.membership_id}
        held = {owner: set() for owner in owners}
        keys = MembershipRole.objects.filter(membership__in=owners).values_list("membership", "role__permissions__key")
        for owner, key in keys:
            held[owner].add(key)
        for row in rows:
            now = policy.effective_permissions(policy.Standing.of(row))
            ceiling = self.given[row.pk].ceiling
            if ceiling is not None and row.granted_through != "owner":
                assert frozenset(row.granted) <= ceiling, (row.name, set(row.granted) - ceiling)
                assert now.permissions <= ceiling
            if row.membership_id is not None:
                assert now.permissions <= held[row.membership_id], (row.name, now)

    def rows_with_standing(self):
        """As `with_standing` reads them, for what they may do alone; its SQL is made once and not at every step."""
        if not AnyOrder.reading:
            AnyOrder.reading = ApiToken.objects.annotate(**standing()).query.sql_with_params()
        rows = list(ApiToken.objects.raw(*AnyOrder.reading))
        for row in rows:
            for name in ("role_rows", "holder_rows", "vendor_rows"):
                if isinstance(value := getattr(row, name), str):
                    setattr(row, name, json.loads(value))
        return rows

    def one_answer_says_what_works(self):
        rows = [
            (row, policy.effective_permissions(policy.Standing.of(row))) for row in ApiToken.objects.with_standing()
        ]
        by_policy = {row.pk for row, now in rows if policy.state(row, now, at=self.at) == policy.State.USABLE}
        assert set(ApiToken.objects.usable(at=self.at).values_list("pk", flat=True)) == by_policy

    def nothing_crosses_a_wall(self):
        with connection.cursor() as cursor:
            for across in WALLS:
                cursor.execute(across)
                assert cursor.fetchone() is None, across
        self.looked += 1
        if self.looked % 3 == 0:
            house = self.house(self.looked // 3)
            seen = visible_tokens(self.person(self.member(house, self.looked // 9)))
            assert not seen.exclude(tenant=house.tenant).exists()

    def nothing_deleted_works(self):
        for client_id, kind, plaintext in self.deleted[-1:]:
            if kind == Kind.ACCESS_TOKEN:
                answer = self.client.get("/api/v1/token/self", headers=bearer(plaintext))
                assert answer.status_code == 401
                assert "right" not in answer.json()["detail"]
            else:
                answer = self.client.post(
                    "/oauth2/token",
                    "grant_type=client_credentials",
                    content_type="application/x-www-form-urlencoded",
                    headers=basic(client_id, plaintext),
                )
                assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("part", range(PARTS))
def test_in_any_order_nobody_gets_more_than_they_may_hand_out(world, part):
    tally.accepted.clear()
    tally.refused.clear()
    AnyOrder.world = world
    chosen = settings(
        max_examples=EXAMPLES,
        stateful_step_count=STEPS,
        database=None,
        deadline=None,
        print_blob=True,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(seed(SEED + part)(AnyOrder), settings=chosen, _min_steps=STEPS)
    if not AT_LEAST:
        return
    kinds = set(tally.accepted) | set(tally.refused)
    # Nothing can refuse the passing of time.
    rare = {
        kind: (tally.accepted[kind], tally.refused[kind])
        for kind in kinds
        if tally.accepted[kind] < AT_LEAST or (tally.refused[kind] < AT_LEAST and kind != "move the clock")
    }
    assert not rare
    assert kinds >= {
        "invite", "promote", "demote", "leave", "edit role", "edit permission", "edit token type", "issue",
        "edit token", "rotate", "complete", "cancel", "move the clock", "suspend member", "suspend tenant", "disable",
        "enable", "delete", "use",
    }  # fmt: skip
