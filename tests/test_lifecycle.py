"""What happens when: the table of the design's section 5, a test for each of its cells.

Mo, a member of Acme, makes a tenant's token and personal ones; Vic of the vendor makes the environment's. Then things
happen, through pages and API as to everybody, and after each the token's secret, or a JWT of before, is presented. For
every token the queryset, the policy and HTTP agree at each step; offline, a JWT is good until its `exp` whatever
happens.
"""

import json
from datetime import timedelta

import jwt as pyjwt
import pytest
import time_machine
from django.core.management import call_command
from django.utils import timezone

from apitokens.governance import signing_keys
from apitokens.models import DAY, ApiToken, SigningKey
from apitokens.principals import system
from apitokens.services import Issued
from config import housekeeping
from tests.agreement import SELF, assert_agreed, by_queryset_and_policy
from tests.cast import bearer, jwt_of
from tests.factories import VendorMembershipFactory, insert_copy

READ = {"reports:read"}
ALL = {"reports:read", "reports:write"}
MORE = ALL | {"settings:manage"}
DEAD = None


class Life:
    """The people, their tokens by name, and everything that can happen to them."""

    def __init__(self, world, machine, clock):
        self.world, self.machine, self.clock = world, machine, clock
        self.acme, self.office, self.production = world.acme, world.office, world.production
        self.mo = world.acme.people["member"]
        self.vic = VendorMembershipFactory(vendor=world.vendor, role="admin")
        world.office.people["vic"] = self.vic
        of_mo = {
            "tenant": {"roles": ["member"]},
            "tenant client": {"roles": ["member"], "kind": "client_credentials"},
            "personal": {"roles": ["member"], "owner": "user"},
            "personal client": {"roles": ["member"], "owner": "user", "kind": "client_credentials"},
            "follower": {"owner": "user"},
        }
        self.issued = {name: self.acme.issue("member", name=name, **asked) for name, asked in of_mo.items()}
        for name, kind in (("environment", "access_token"), ("environment client", "client_credentials")):
            self.issued[name] = self._issued_by_vic(name, kind)
        self.jwts = {f"{name} JWT": self._jwt(f"{name} client") for name in ("tenant", "personal", "environment")}
        self.jwts["bound JWT"] = self._jwt("environment client", tenant=str(self.acme.tenant.id))

    def _issued_by_vic(self, name, kind):
        body = {"name": name, "owner": "environment", "kind": kind, "permissions": sorted(ALL)}
        made = self._vendors("POST", "tokens", body, role="vic", status=201)
        secret = made["access_token" if kind == "access_token" else "client_secret"]
        return Issued(token=ApiToken.objects.get(token_id=made["id"]), plaintext=secret)

    def _jwt(self, name, **asked):
        return jwt_of(self.machine, self.issued[name], **asked)

    def _tenants(self, method, path, body=None, *, role="owner", status=200):
        joined = f"{path}{'&' if '?' in path else '?'}tenant={self.acme.tenant.id}"
        return _json(self.acme.api(role, method, joined, body), status)

    def _vendors(self, method, path, body=None, *, role="owner", status=200):
        return _json(self.office.api(role, method, path, body, environment=self.production), status)

    # What is seen of it

    def scope(self, name):
        """What of the vendor's own API the credential may do; None when it is refused."""
        credential = self.jwts.get(name) or self.issued[name].plaintext
        answer = self.machine.get(SELF, headers=bearer(credential))
        if answer.status_code == 401:
            return None
        return set(answer.json()["scope"].split()) & {*MORE, "billing:manage"}

    def flags(self, name):
        path = f"tokens/{self.issued[name].token.token_id}"
        read = self._vendors if name.startswith("environment") else self._tenants
        return set(read("GET", path)["flags"])

    def published_keys(self):
        keys = self.machine.get(f"/e/{self.production.slug}/jwks.json").json()["keys"]
        return {key["kid"]: pyjwt.PyJWK(key) for key in keys}

    def is_good_offline(self, name, by_kid):
        """To who has nothing but published keys and a clock."""
        kid = pyjwt.get_unverified_header(self.jwts[name])["kid"]
        try:
            pyjwt.decode(self.jwts[name], by_kid[kid].key, algorithms=["ES256"], options={"verify_aud": False})
        except (pyjwt.InvalidTokenError, KeyError):
            return False
        return True

    def agree(self):
        assert_agreed(self.machine, self.issued.values(), at=timezone.now())


def _json(answer, status):
    assert answer.status_code == status, answer.content
    return json.loads(answer.content) if answer.content else None


def _role(life, key):
    return next(role["id"] for role in life._vendors("GET", "roles")["results"] if role["key"] == key)


def _permission(life, key):
    found = life._vendors("GET", "permissions?page_size=100")["results"]
    return next(permission["id"] for permission in found if permission["key"] == key)


# Of the one who made it


def give(*roles):
    return _named(
        f"given {'+'.join(roles)}", lambda life: life._tenants("PATCH", f"members/{life.mo.id}", {"roles": roles})
    )


def suspend_mo(life):
    life._tenants("POST", f"members/{life.mo.id}/suspend")


def reinstate_mo(life):
    life._tenants("POST", f"members/{life.mo.id}/reinstate")


def remove_mo(life):
    life._tenants("DELETE", f"members/{life.mo.id}", status=204)


def leave(life):
    browser = life.acme.browser("member")
    path = f"/t/{life.acme.tenant.slug}/leave/"
    browser.get(path)
    answer = browser.post(path, {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value})
    assert answer.status_code == 302


def come_back(role):
    def act(life):
        made = life._tenants("POST", "invitations", {"email": life.mo.user.email, "roles": [role]}, status=201)
        path = "/" + made["link"].split("/", 3)[3]
        browser = life.acme.browser("member")
        browser.get(path)
        assert browser.post(path, {"csrfmiddlewaretoken": browser.cookies["csrftoken"].value}).status_code == 302

    return _named(f"back as {role}", act)


def remove_vic(life):
    life._vendors("DELETE", f"vendor-members/{life.vic.id}", status=204)


def erase(person):
    return _named(
        "erased", lambda life: call_command("erase_user", str(getattr(life, person).user_id), stdout=_Nowhere())
    )


class _Nowhere:
    def write(self, text):
        pass


def new_password(life):
    life.mo.user.set_password("correct horse battery")
    life.mo.user.save()


# Of roles and permissions


def hold(key, *permissions):
    def act(life):
        path = f"roles/{_role(life, key)}"
        held = set(life._vendors("GET", path)["permissions"])
        life._vendors("PATCH", path, {"permissions": sorted((held - MORE) | set(permissions))})

    return _named(f"{key} holds {'+'.join(sorted(permissions)) or 'nothing'}", act)


def level(key, number):
    return _named(
        f"level {number}", lambda life: life._vendors("PATCH", f"roles/{_role(life, key)}", {"level": number})
    )


def end_role(how="", status=204):
    def act(life):
        answer = life._vendors("DELETE", f"roles/{_role(life, 'member')}{how}", status=status)
        if status == 409:
            # Its holders, in both tenants of the environment; Mo's tokens through it; nothing else uses it.
            assert (answer["code"], answer["usage"]["members"], answer["usage"]["tokens"]) == ("in_use", 2, 4)

    return _named(f"role ended {how}", act)


def end_permission(how="", status=204):
    def act(life):
        answer = life._vendors("DELETE", f"permissions/{_permission(life, 'reports:write')}{how}", status=status)
        if status == 409:
            assert (answer["code"], answer["usage"]["tokens"] > 0, answer["usage"]["roles"] > 0) == (
                "in_use",
                True,
                True,
            )

    return _named(f"permission ended {how}", act)


def same_name_again(life):
    life._vendors("POST", "permissions", {"key": "reports:write"}, status=201)
    hold("member", *ALL)(life)


def take_over(name):
    def act(life):
        life._tenants("PATCH", f"tokens/{life.issued[name].token.token_id}", {"roles": ["member"]})

    return _named("taken over", act)


# Of the token itself


def of_token(method, act_name, status=200, **body):
    """By who may: the vendor's owner for the environment's, Mo for his own, Acme's owner for the tenant's."""

    def with_name(name):
        def act(life):
            path = f"tokens/{life.issued[name].token.token_id}{act_name}"
            if name.startswith("environment"):
                return life._vendors(method, path, body or None, status=status)
            role = "member" if name.startswith(("personal", "follower")) else "owner"
            return life._tenants(method, path, body or None, role=role, status=status)

        return _named(act_name.strip("/") or method.lower(), act)

    return with_name


disable = of_token("POST", "/disable")
enable = of_token("POST", "/enable")
delete = of_token("DELETE", "", 204)
end_jwts = of_token("POST", "/end-jwts")


def renew(name):
    def act(life):
        old = life.issued[name]
        made = of_token("POST", "/rotate", 201, overlap=0)(name)(life)
        secret = made["access_token"] if old.token.kind == "access_token" else made["client_secret"]
        life.issued[name] = Issued(token=old.token, plaintext=secret)
        life.issued["the old"] = old
        # It is refused like what never was; nothing else is known of it, so it is not among those that must agree.
        assert life.scope("the old") is None
        del life.issued["the old"]

    return _named("renewed", act)


# Of what is above it


def of_tenant(act_name):
    return lambda life: life._vendors("POST", f"tenants/{life.acme.tenant.id}/{act_name}")


def of_environment(act_name):
    return lambda life: life._vendors("POST", f"environments/{life.production.slug}/{act_name}")


def delete_tenant(life):
    life._vendors("DELETE", f"tenants/{life.acme.tenant.id}", {"name": life.acme.tenant.name})


def delete_environment(life):
    life._vendors("DELETE", f"environments/{life.production.slug}", {"name": life.production.name})


def of_type(cell, **change):
    named = ", ".join(f"{name} {value}" for name, value in change.items() if name in {"is_enabled", "existing"})
    return _named(named, lambda life: life._vendors("PATCH", f"token-types/{cell}", change))


def tighten(cell, existing):
    limits = {"longest_lifetime": DAY, "default_lifetime": DAY, "may_never_expire": False}
    return of_type(cell, **limits, existing=existing)


def after(**length):
    return _named(f"after {length}", lambda life: life.clock.shift(timedelta(**length)))


def housekeep(life):
    housekeeping.run()


def erased_rows(life):
    housekeeping.run()
    tokens = [issued.token.pk for name, issued in life.issued.items() if not name.startswith("environment")]
    assert not ApiToken.objects.filter(pk__in=tokens).exists()


def compromise_key(life):
    key = SigningKey.objects.get(environment=life.production, state="active")
    signing_keys.compromise(by=system(life.production), key=key, typed=key.kid, at=timezone.now())


def pepper(*numbers):
    def act(life):
        peppers = {1: life.peppers[min(life.peppers)], 2: b"another pepper of thirty-two byte"}
        life.settings.PEPPERS = {number: peppers[number] for number in numbers}

    return _named(f"peppers {numbers}", act)


def _named(name, act):
    act.__name__ = name
    return act


def flagged(*flags):
    return set(flags)


def cell(event, column, name, *steps):
    """`steps` are (what happens, what the credential may do then, and perhaps which flags the token has then)."""
    return pytest.param(name, steps, id=f"{event} - {column}")


OWNED, PERSONAL, JWT = "owned", "personal", "JWT"
FORMER, DEMOTED, SUSPENDED, DROPPED, BEYOND = (
    "secret_known_to_former_member", "creator_demoted", "creator_suspended", "role_dropped", "out_of_policy",
)  # fmt: skip
TENANTS, MINE = "tenant/access_token", "user/access_token"
TENANT_CLIENTS, MY_CLIENTS = "tenant/client_credentials", "user/client_credentials"
TABLE = [
    cell("creator demoted", OWNED, "tenant", (give("viewer"), ALL, {DEMOTED}), (give("member"), ALL, set())),
    cell("creator demoted", PERSONAL, "personal", (give("viewer"), READ), (give("member"), ALL)),
    cell("creator demoted, then above what he was", PERSONAL, "personal", (give("viewer"), READ), (give("admin"), ALL)),
    cell("creator demoted", JWT, "tenant JWT", (give("viewer"), ALL), (end_jwts("tenant client"), DEAD)),
    cell("creator demoted", "personal JWT", "personal JWT", (give("viewer"), READ), (give("member"), ALL)),
    cell("creator promoted", OWNED, "tenant", (give("admin"), ALL, set())),
    cell("creator promoted", PERSONAL, "personal", (give("admin"), ALL)),
    cell("creator promoted", "follower", "follower", (give("admin"), MORE), (give("viewer"), READ)),
    cell("creator promoted", JWT, "personal JWT", (give("admin"), ALL)),
    cell("creator suspended", OWNED, "tenant", (suspend_mo, ALL, {SUSPENDED}), (reinstate_mo, ALL, set())),
    cell("creator suspended", PERSONAL, "personal", (suspend_mo, DEAD), (reinstate_mo, ALL)),
    cell("creator suspended", "follower", "follower", (suspend_mo, DEAD), (reinstate_mo, ALL)),
    cell("creator suspended", JWT, "personal JWT", (suspend_mo, DEAD), (reinstate_mo, DEAD)),
    cell("creator suspended", "tenant's JWT", "tenant JWT", (suspend_mo, ALL)),
    cell("creator leaves", OWNED, "tenant", (leave, ALL, {FORMER}), (renew("tenant"), ALL, set())),
    cell("creator is removed", OWNED, "tenant", (remove_mo, ALL, {FORMER})),
    cell("creator leaves", PERSONAL, "personal", (leave, DEAD), (after(days=8), DEAD), (housekeep, DEAD)),
    cell("creator is removed", PERSONAL, "personal", (remove_mo, DEAD)),
    cell(
        "creator back within seven days",
        PERSONAL,
        "personal",
        (leave, DEAD),
        (after(days=6), DEAD),
        (housekeep, DEAD),
        (come_back("member"), ALL),
    ),
    cell(
        "creator back with less",
        PERSONAL,
        "personal",
        (leave, DEAD),
        (after(days=6), DEAD),
        (come_back("viewer"), READ),
        (give("member"), ALL),
    ),
    cell("creator back with more", PERSONAL, "personal", (leave, DEAD), (come_back("admin"), ALL)),
    cell(
        "creator back after seven days",
        PERSONAL,
        "personal",
        (leave, DEAD),
        (after(days=7), DEAD),
        (come_back("member"), DEAD),
    ),
    cell(
        "creator back after seven days, follower",
        PERSONAL,
        "follower",
        (leave, DEAD),
        (after(days=7), DEAD),
        (come_back("member"), DEAD),
    ),
    cell("creator leaves", JWT, "personal JWT", (leave, DEAD), (come_back("member"), DEAD)),
    cell("creator leaves", "tenant's JWT", "tenant JWT", (leave, ALL)),
    cell("vendor member leaves", OWNED, "environment", (remove_vic, ALL, {FORMER}), (renew("environment"), ALL, set())),
    cell("vendor member leaves", JWT, "environment JWT", (remove_vic, ALL)),
    cell("user erased", OWNED, "tenant", (erase("mo"), ALL, {FORMER})),
    cell("user erased", PERSONAL, "personal", (erase("mo"), DEAD)),
    cell("user erased", JWT, "personal JWT", (erase("mo"), DEAD)),
    cell("user erased", "tenant's JWT", "tenant JWT", (erase("mo"), ALL)),
    cell("vendor member erased", OWNED, "environment", (erase("vic"), ALL, {FORMER})),
    *[
        param
        for column, name in (
            (OWNED, "tenant"),
            (PERSONAL, "personal"),
            (JWT, "tenant JWT"),
            ("own JWT", "personal JWT"),
        )
        for param in (
            cell("role in use deleted, refused", column, name, (end_role(status=409), ALL)),
            cell("role in use replaced", column, name, (end_role("?replacement=viewer"), READ)),
            cell("role in use forced", column, name, (end_role("?force=true"), DEAD)),
            cell("permission in use deleted, refused", column, name, (end_permission(status=409), ALL)),
            cell("permission in use replaced", column, name, (end_permission("?replacement=reports:read"), READ)),
            cell(
                "permission in use forced", column, name, (end_permission("?force=true"), READ), (same_name_again, READ)
            ),
            cell(
                "permission removed from role", column, name, (hold("member", *READ), READ), (hold("member", *ALL), ALL)
            ),
            cell("permission added to role", column, name, (hold("member", *MORE), ALL)),
            cell("role emptied", column, name, (hold("member"), set())),
            cell("role's level raised", column, name, (level("member", 25), DEAD), (level("member", 20), ALL)),
        )
    ],
    cell(
        "permission in use forced, picked",
        OWNED,
        "environment",
        (end_permission("?force=true"), READ),
        (same_name_again, READ),
    ),
    cell(
        "permission added to role, taken over",
        OWNED,
        "tenant",
        (hold("member", *MORE), ALL),
        (take_over("tenant"), MORE),
    ),
    cell("permission added to role", "follower", "follower", (hold("member", *MORE), MORE)),
    cell("role's level raised, flagged", OWNED, "tenant", (level("member", 25), DEAD, {DROPPED})),
    cell("role's level raised", "follower", "follower", (level("member", 25), ALL)),
    *[
        param
        for column, name, token in (
            (OWNED, "tenant", "tenant"),
            ("environment's", "environment", "environment"),
            (PERSONAL, "personal", "personal"),
            (JWT, "tenant JWT", "tenant client"),
            ("own JWT", "personal JWT", "personal client"),
            ("environment's JWT", "environment JWT", "environment client"),
            ("bound JWT", "bound JWT", "environment client"),
        )
        for again in [DEAD if "JWT" in name else ALL]
        for is_tenants in [not name.startswith("environment")]
        for param in (
            cell("token disabled", column, name, (disable(token), DEAD), (enable(token), again)),
            cell("token deleted", column, name, (delete(token), DEAD)),
            cell(
                "tenant suspended",
                column,
                name,
                (of_tenant("suspend"), DEAD if is_tenants else ALL),
                (of_tenant("reinstate"), again if is_tenants else ALL),
            ),
            cell(
                "environment suspended",
                column,
                name,
                (of_environment("suspend"), DEAD),
                (of_environment("reinstate"), again),
            ),
            cell(
                "tenant deleted",
                column,
                name,
                (delete_tenant, DEAD if is_tenants else ALL),
                (of_tenant("restore"), again if is_tenants else ALL),
            ),
            cell("environment deleted", column, name, (delete_environment, DEAD), (of_environment("restore"), again)),
        )
    ],
    cell(
        "tenant deleted for thirty days",
        OWNED,
        "tenant",
        (delete_tenant, DEAD),
        (after(days=30), DEAD),
        (erased_rows, DEAD),
    ),
    cell(
        "tenant deleted for thirty days",
        PERSONAL,
        "personal",
        (delete_tenant, DEAD),
        (after(days=30), DEAD),
        (erased_rows, DEAD),
    ),
    cell(
        "environment deleted for 72 hours",
        OWNED,
        "environment",
        (delete_environment, DEAD),
        (after(hours=72), DEAD),
        (erased_rows, DEAD),
    ),
    cell(
        "environment deleted for 72 hours",
        PERSONAL,
        "personal",
        (delete_environment, DEAD),
        (after(hours=72), DEAD),
        (erased_rows, DEAD),
    ),
    *[
        param
        for column, name, kind in (
            (OWNED, "tenant", TENANTS),
            ("environment's", "environment", "environment/access_token"),
            (PERSONAL, "personal", MINE),
            (JWT, "tenant JWT", TENANT_CLIENTS),
            ("own JWT", "personal JWT", MY_CLIENTS),
            ("environment's JWT", "environment JWT", "environment/client_credentials"),
        )
        for again in [DEAD if "JWT" in name else ALL]
        for beyond in [() if "JWT" in name or name == "personal" else ({BEYOND},)]
        for param in (
            cell(
                "type disabled",
                column,
                name,
                (of_type(kind, is_enabled=False), DEAD),
                (of_type(kind, is_enabled=True), again),
            ),
            cell("limit tightened, left", column, name, (tighten(kind, "leave"), ALL, *beyond)),
            cell("limit tightened, disabled", column, name, (tighten(kind, "disable"), DEAD)),
        )
    ],
    cell("limit tightened, capped", OWNED, "tenant", (tighten(TENANTS, "cap"), ALL, set()), (after(days=1), DEAD)),
    cell("limit tightened, capped", PERSONAL, "personal", (tighten(MINE, "cap"), ALL), (after(days=1), DEAD)),
    cell("limit tightened, capped", JWT, "tenant JWT", (tighten(TENANT_CLIENTS, "cap"), ALL)),
    cell(
        "limit tightened, left, in time",
        OWNED,
        "tenant",
        (tighten(TENANTS, "leave"), ALL, {BEYOND}),
        (after(days=2), ALL, {BEYOND}),
    ),
    cell("secret renewed", OWNED, "tenant", (renew("tenant"), ALL)),
    cell("secret renewed", PERSONAL, "personal", (renew("personal"), ALL)),
    cell("secret renewed", JWT, "tenant JWT", (renew("tenant client"), ALL)),
    cell("JWTs ended", OWNED, "tenant", (end_jwts("tenant"), ALL)),
    cell("JWTs ended", JWT, "tenant JWT", (end_jwts("tenant client"), DEAD)),
    cell("pepper rotated", OWNED, "tenant", (pepper(1, 2), ALL)),
    cell("pepper rotated", PERSONAL, "personal", (pepper(1, 2), ALL), (renew("personal"), ALL)),
    cell("pepper rotated", JWT, "tenant JWT", (pepper(1, 2), ALL)),
    cell("password reset", OWNED, "tenant", (new_password, ALL)),
    cell("password reset", PERSONAL, "personal", (new_password, ALL)),
    cell("password reset", JWT, "personal JWT", (new_password, ALL)),
]


@pytest.fixture
def life(world, machine, settings):
    with time_machine.travel(timezone.now(), tick=True) as clock:
        life = Life(world, machine, clock)
        life.settings, life.peppers = settings, dict(settings.PEPPERS)
        yield life


@pytest.mark.parametrize(("name", "steps"), TABLE)
def test_what_happens_when(life, name, steps):
    began, keys = timezone.now(), life.published_keys()
    assert life.scope(name) == ALL
    for act, expected, *flags in steps:
        act(life)
        # A credential that works, but for nothing of the vendor's API, is told from one that is refused.
        assert life.scope(name) == expected, act.__name__
        if flags:
            assert [life.flags(name)] == flags, act.__name__
        life.agree()
        if name in life.jwts:
            assert life.is_good_offline(name, keys) == (timezone.now() - began < timedelta(hours=1))


def test_a_jwt_signed_by_a_compromised_key_is_dead_everywhere_at_once(life):
    """Also offline, for who has fetched the keys anew; the tokens themselves don't know of it."""
    names = [*life.jwts, "tenant", "personal", "environment"]
    compromise_key(life)
    assert [life.scope(name) for name in names] == [DEAD, DEAD, DEAD, DEAD, ALL, ALL, ALL]
    signed_by = {pyjwt.get_unverified_header(jwt)["kid"] for jwt in life.jwts.values()}
    assert signed_by & life.published_keys().keys() == set()


def test_without_the_pepper_of_its_digest_a_secret_is_refused_until_the_pepper_is_back(life):
    seen = []
    for act in (pepper(1, 2), pepper(2), pepper(1, 2)):
        act(life)
        seen.append([life.scope("tenant"), life.scope("tenant JWT")])
    assert seen == [[ALL, ALL], [DEAD, ALL], [ALL, ALL]]


def test_the_vendors_own_personal_tokens_stop_with_them(life):
    """No door makes one yet: a row shows what the rules say of it."""
    vendors = {
        "tenant": None, "membership": None, "vendor": life.world.vendor.id, "vendor_membership": life.vic.id,
        "token_id": "of-vic", "client_id": "of-vic",
    }  # fmt: skip
    insert_copy(life.issued["follower"].token, vendors)
    seen = []
    for act in (lambda life: None, remove_vic, after(days=7), housekeep):
        act(life)
        works, by_policy = by_queryset_and_policy(at=timezone.now())
        assert works == by_policy
        seen.append(works.get("of-vic"))
    assert seen == [True, False, False, None]


def test_of_an_erased_person_the_tenants_tokens_keep_no_name(life):
    erase("mo")(life)
    page = life.acme.browser("owner").get(life.acme.url(f"{life.issued['tenant'].token.token_id}/")).content.decode()
    assert "A former member" in page
    assert life.mo.user.email not in page
