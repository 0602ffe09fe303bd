"""Every named constraint, asked of the database itself with raw rows: each refuses its own bad row and nothing else.

A bad row is a copy of a good one with the columns of one rule changed; the same copy without that change is accepted.
"""

from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.db.models import CheckConstraint, UniqueConstraint
from django.utils import timezone

from accounts.models import User
from apitokens.governance import invitations, vendor_members
from apitokens.models import (
    DAY,
    ApiTokenRole,
    IssueNonce,
    PortalSession,
    RevokedJWT,
    Secret,
    SigningKey,
    StatusSlot,
    TokenTypeRole,
    UsageHour,
    UsedAssertion,
)
from apitokens.principals import system
from audit.models import AuditEvent
from tenants.constraints import CompositeForeignKey
from tenants.models import (
    Brand,
    IdentityProviderRole,
    InvitationEnvironment,
    InvitationRole,
    MembershipRole,
    RolePermission,
    TakenSlug,
    VendorMembershipEnvironment,
)
from tests.cast import removed_from_sso
from tests.factories import (
    EnvironmentFactory,
    RoleFactory,
    UserFactory,
    VendorFactory,
    VendorMembershipFactory,
    insert_copy,
    prepared,
)

ON_SQLITE = settings.DATABASES["default"]["ENGINE"].endswith("sqlite3")
# A unique key over more than the primary key is there for composite foreign keys to point at: nothing breaks it alone.
IMPLIED_BY_PRIMARY_KEY = {
    "environment_agreement_key", "tenant_agreement_key", "permission_agreement_key", "role_scope_agreement_key",
    "role_environment_agreement_key", "membership_agreement_key", "vendormembership_agreement_key",
    "tokentype_agreement_key", "apitoken_agreement_key", "invitation_agreement_key", "invitation_vendor_agreement_key",
    "identityprovider_agreement_key",
}  # fmt: skip

# Rows of these, and the column slug, refuse every update: see test_append_only.py.
NEVER_UPDATED = {"takenslug", "auditevent", "slug"}


@pytest.fixture
def scene(world):
    """A good row of every model; `fresh` says what a second good row must have of its own."""
    other_environment = EnvironmentFactory(vendor=VendorFactory())
    acme, globex, production, staging = world.acme, world.globex, world.production, world.staging
    own = RoleFactory(environment=production, tenant=acme.tenant, key="own:robots")
    foreign_own = RoleFactory(environment=production, tenant=globex.tenant, key="own:robots")
    default_role = RoleFactory(environment=production, key="clients", is_for_new_tenants=True)
    member = VendorMembershipFactory(vendor=world.vendor, in_all_environments=False)
    stranger = VendorMembershipFactory(vendor=other_environment.vendor)
    token = acme.issue("admin", kind="client_credentials", roles=["viewer"]).token
    personal = acme.issue("admin", kind="client_credentials", owner="user").token
    free_cell = production.token_types.get(owner="user", kind="client_credentials")
    staging.token_types.filter(owner="user", kind="client_credentials").delete()
    nobody, removed = UserFactory(), removed_from_sso(acme)
    asked = {"by": system(production), "email": "invited@example.com", "at": timezone.now()}
    invitation = invitations.invite(tenant=acme.tenant, roles=["viewer"], **asked).invitation
    vendor_invitation = vendor_members.invite(role="admin", environments=[production], **asked).invitation
    cell = {"token_type": token.token_type, "environment": production, "owner": token.owner, "kind": token.kind}
    good = {
        "vendor": (world.vendor, lambda: {"name": "New", "slug": "new"}),
        "environment": (production, lambda: {"name": "New", "slug": "new", "token_prefix": "new"}),
        "brand": (
            Brand.objects.create(environment=production, name="Bolt", accent="#2f6fde"),
            lambda: {"environment": staging.id},
        ),
        "apiidentifier": (production.api_identifiers.get(), lambda: {"uri": "urn:new", "is_default": False}),
        "tenant": (acme.tenant, lambda: {"name": "New", "slug": "new", "external_id": "new"}),
        "permission": (production.permissions.get(key="reports:read"), lambda: {"key": "new"}),
        "role": (own, lambda: {"key": "own:new", "name": "New"}),
        "default_role": (default_role, lambda: {"key": "new", "name": "New", "is_for_new_tenants": False}),
        "rolepermission": (
            RolePermission.objects.create(
                role=own, permission=production.permissions.get(key="reports:read"), environment=production
            ),
            lambda: {"permission": production.permissions.get(key="reports:write").id},
        ),
        "membership": (acme.people["viewer"], lambda: {"user": nobody.id}),
        "membershiprole": (
            MembershipRole.objects.get(membership=acme.people["viewer"]),
            lambda: {"role": acme.role("member").id},
        ),
        "vendormembership": (member, lambda: {"user": nobody.id}),
        "vendormembershipenvironment": (
            VendorMembershipEnvironment.objects.create(
                vendor_membership=member, environment=production, vendor=world.vendor
            ),
            lambda: {"environment": staging.id},
        ),
        "invitation": (invitation, lambda: {"email": "new@example.com", "digest": b"3" * 32}),
        "vendor_invitation": (vendor_invitation, lambda: {"email": "new@example.com", "digest": b"4" * 32}),
        "invitationrole": (InvitationRole.objects.get(invitation=invitation), lambda: {"role": acme.role("member").id}),
        "invitationenvironment": (
            InvitationEnvironment.objects.get(invitation=vendor_invitation),
            lambda: {"environment": staging.id},
        ),
        "tokentype": (free_cell, lambda: {"environment": staging.id}),
        "tokentyperole": (
            TokenTypeRole.objects.create(role=acme.role("viewer"), **cell),
            lambda: {"role": acme.role("member").id},
        ),
        "apitoken": (token, _public_names),
        "personal": (personal, _public_names),
        "vendors_personal": (
            personal,
            lambda: {
                **_public_names(), "tenant": None, "membership": None,
                "vendor": world.vendor.id, "vendor_membership": member.id,
            },
        ),
        "apitokenrole": (ApiTokenRole.objects.get(token=token), lambda: {"role": acme.role("member").id}),
        "secret": (Secret.objects.get(token=token), lambda: {"slot": 2}),
        "issuenonce": (IssueNonce.objects.create(actor_id=nobody.id, digest=b"1" * 32), lambda: {"digest": b"2" * 32}),
        "signingkey": (SigningKey.objects.get(environment=production), lambda: {"kid": "new", "state": "published"}),
        "statusslot": (
            StatusSlot.objects.create(environment=production, index=7, token_id=token.id, generation=0),
            lambda: {"index": 8, "generation": 1},
        ),
        "revokedjwt": (
            RevokedJWT.objects.create(environment=production, jti="1", expires_at=timezone.now()),
            lambda: {"jti": "2"},
        ),
        "usedassertion": (
            UsedAssertion.objects.create(token=token, jti_digest=b"5" * 32, expires_at=timezone.now()),
            lambda: {"jti_digest": b"6" * 32},
        ),
        "usagehour": (
            UsageHour.objects.create(
                environment=production, scope_id=acme.tenant.id, token_id=token.id, hour=timezone.now(),
                outcome="granted", count=1,
            ),
            lambda: {"outcome": "accepted"},
        ),
        "portalsession": (
            PortalSession.objects.create(
                environment=production, tenant=acme.tenant, membership=acme.people["viewer"], token=token,
                digest=b"7" * 32, generation=0, sections=["tokens"], link_expires_at=_in(1), ends_at=_in(60),
            ),
            lambda: {"digest": b"8" * 32},
        ),
        "identityprovider": (
            removed.tenant.identity_provider, lambda: {"tenant": globex.tenant.id, "voucher_id": uuid4()}
        ),
        "identityproviderrole": (
            IdentityProviderRole.objects.get(tenant=acme.tenant), lambda: {"role": acme.role("member").id}
        ),
        "auditevent": (AuditEvent.objects.filter(actor_kind="user").first(), dict),
        "user": (nobody, lambda: {"email": "new@example.com"}),
        "vouched": (
            User.objects.create(email="v@example.com", voucher_id=production.id, voucher_user_id="17"),
            lambda: {"voucher_user_id": "18"},
        ),
        "takenslug": (TakenSlug.objects.get(slug=acme.tenant.slug), lambda: {"slug": "new"}),
    }  # fmt: skip
    return SimpleNamespace(
        good=good, world=world, production=production, staging=staging, acme=acme, globex=globex, own=own,
        foreign_own=foreign_own, other_environment=other_environment, stranger=stranger, personal=personal,
    )  # fmt: skip


def _in(minutes):
    return timezone.now() + timedelta(minutes=minutes)


def _public_names() -> dict[str, object]:
    return {"token_id": "0" * 12, "client_id": "new", "name": "New", "name_key": "new"}


def _same(*fields):
    """The good row's own values again: what makes a unique key break."""
    return lambda s, row: {field: getattr(row, row._meta.get_field(field).attname) for field in fields}


def _set(**values):
    return lambda s, row: values


ROWS = [
    ("vendor_name_unique", "vendor", lambda s, row: {"name": row.name.upper()}),
    ("vendor_slug_form", "vendor", _set(slug="Not a slug")),
    ("environment_name_unique_in_vendor", "environment", lambda s, row: {"name": row.name.upper()}),
    ("environment_slug_form", "environment", _set(slug="-new")),
    ("environment_token_prefix_form", "environment", _set(token_prefix="New")),
    ("environment_algorithm_known", "environment", _set(signing_algorithm="HS256")),
    ("environment_colour_known", "environment", _set(colour="pink")),
    ("brand_accent_form", "brand", _set(accent="#2F6FDE")),
    ("brand_accent_form", "brand", _set(accent="2f6fde")),
    ("brand_logo_with_type", "brand", _set(logo=b"x", logo_type="image/svg+xml", logo_digest="0")),
    ("brand_logo_with_type", "brand", _set(logo=b"x", logo_type="image/png", logo_digest="")),
    ("brand_logo_with_type", "brand", _set(logo=None, logo_type="image/png", logo_digest="0")),
    ("portalsession_link_unique", "portalsession", _same("digest")),
    ("portalsession_seen_once_opened", "portalsession", _set(opened_at=timezone.now())),
    ("portalsession_ends_after_its_link", "portalsession", lambda s, row: {"link_expires_at": row.created_at}),
    (
        "portalsession_ends_after_its_link",
        "portalsession",
        lambda s, row: {"ends_at": row.link_expires_at - timedelta(seconds=1)},
    ),
    (
        "portalsession_membership_of_tenant",
        "portalsession",
        lambda s, row: {"membership": s.globex.people["viewer"].id},
    ),
    ("portalsession_tenant_of_environment", "portalsession", lambda s, row: {"environment": s.staging.id}),
    ("apiidentifier_unique_in_environment", "apiidentifier", _same("uri")),
    ("apiidentifier_one_default", "apiidentifier", _set(is_default=True)),
    ("apiidentifier_absolute_uri", "apiidentifier", _set(uri="/relative")),
    ("apiidentifier_absolute_uri", "apiidentifier", _set(uri="https://api.example/#fragment")),
    ("tenant_name_unique_in_environment", "tenant", lambda s, row: {"name": row.name.upper()}),
    ("tenant_external_id_unique", "tenant", _same("external_id")),
    ("tenant_slug_form", "tenant", _set(slug="UPPER")),
    ("tenant_external_id_not_like_ours", "tenant", _set(external_id="")),
    ("tenant_external_id_not_like_ours", "tenant", _set(external_id="01890a5d-ac96-774b-bcce-b302099a8057")),
    ("tenant_external_id_not_like_ours", "tenant", _set(external_id="01890A5DAC96774BBCCEB302099A8057")),
    ("permission_key_unique_in_environment", "permission", _same("key")),
    ("permission_key_is_scope_token", "permission", _set(key="two words")),
    ("permission_key_is_scope_token", "permission", _set(key='quo"te')),
    ("role_key_unique", "role", _same("key")),
    ("role_name_unique", "role", lambda s, row: {"name": row.name.upper()}),
    ("role_tenant_of_environment", "role", lambda s, row: {"environment": s.staging.id}),
    ("role_key_form", "role", _set(key="own:Not a key")),
    ("role_own_key_marked", "role", _set(key="admin2")),
    ("role_one_for_new_tenants", "default_role", _set(is_for_new_tenants=True)),
    ("role_for_new_tenants_is_the_vendors", "role", _set(is_for_new_tenants=True)),
    # PostgreSQL's smallint can't even hold a level above the range; SQLite's own check is the first to see one below.
    ("role_level_range", "role", _set(level=32_768 if ON_SQLITE else -1)),
    ("rolepermission_once", "rolepermission", _same("permission")),
    (
        "rolepermission_role_of_environment",
        "rolepermission",
        lambda s, row: {"environment": s.staging.id, "permission": s.staging.permissions.get(key="reports:read").id},
    ),
    (
        "rolepermission_permission_of_environment",
        "rolepermission",
        lambda s, row: {"permission": s.staging.permissions.get(key="reports:read").id},
    ),
    ("membership_once_per_tenant", "membership", _same("user")),
    ("membership_tenant_of_environment", "membership", lambda s, row: {"environment": s.staging.id}),
    ("membershiprole_once", "membershiprole", _same("role")),
    ("membershiprole_membership_of_tenant", "membershiprole", lambda s, row: {"tenant": s.globex.tenant.id}),
    (
        "membershiprole_tenant_of_environment",
        "membershiprole",
        lambda s, row: {"environment": s.staging.id, "role": s.own.id, "role_scope_id": s.acme.tenant.id},
    ),
    ("membershiprole_role_scope", "membershiprole", lambda s, row: {"role_scope_id": s.acme.tenant.id}),
    (
        "membershiprole_role_available_in_tenant",
        "membershiprole",
        lambda s, row: {"role": s.foreign_own.id, "role_scope_id": s.globex.tenant.id},
    ),
    ("vendormembership_once_per_vendor", "vendormembership", _same("user")),
    ("vendormembership_role_known", "vendormembership", _set(role="boss")),
    ("vendormembershipenvironment_once", "vendormembershipenvironment", _same("environment")),
    (
        "vendormembershipenvironment_membership_of_vendor",
        "vendormembershipenvironment",
        lambda s, row: {"environment": s.other_environment.id, "vendor": s.other_environment.vendor_id},
    ),
    (
        "vendormembershipenvironment_environment_of_vendor",
        "vendormembershipenvironment",
        lambda s, row: {"environment": s.other_environment.id},
    ),
    ("invitation_digest_unique", "invitation", _same("digest")),
    ("invitation_one_open_per_tenant", "invitation", lambda s, row: {"email": row.email.upper()}),
    ("invitation_one_open_per_vendor", "vendor_invitation", lambda s, row: {"email": row.email.upper()}),
    ("invitation_to_a_tenant_or_a_vendor", "invitation", _set(vendor_role="admin")),
    ("invitation_to_a_tenant_or_a_vendor", "invitation", _set(environment=None)),
    ("invitation_to_a_tenant_or_a_vendor", "vendor_invitation", _set(vendor_role="boss")),
    ("invitation_to_a_tenant_or_a_vendor", "vendor_invitation", lambda s, row: {"environment": s.production.id}),
    ("invitation_expires_later", "invitation", lambda s, row: {"expires_at": row.created_at}),
    ("invitation_tenant_of_environment", "invitation", lambda s, row: {"environment": s.staging.id}),
    ("invitation_environment_of_vendor", "invitation", lambda s, row: {"vendor": s.other_environment.vendor_id}),
    ("invitationrole_once", "invitationrole", _same("role")),
    ("invitationrole_invitation_of_tenant", "invitationrole", lambda s, row: {"tenant": s.globex.tenant.id}),
    (
        "invitationrole_tenant_of_environment",
        "invitationrole",
        lambda s, row: {"environment": s.staging.id, "role": s.own.id, "role_scope_id": s.acme.tenant.id},
    ),
    ("invitationrole_role_scope", "invitationrole", lambda s, row: {"role_scope_id": s.acme.tenant.id}),
    (
        "invitationrole_role_available_in_tenant",
        "invitationrole",
        lambda s, row: {"role": s.foreign_own.id, "role_scope_id": s.globex.tenant.id},
    ),
    ("invitationenvironment_once", "invitationenvironment", _same("environment")),
    (
        "invitationenvironment_invitation_of_vendor",
        "invitationenvironment",
        lambda s, row: {"environment": s.other_environment.id, "vendor": s.other_environment.vendor_id},
    ),
    (
        "invitationenvironment_environment_of_vendor",
        "invitationenvironment",
        lambda s, row: {"environment": s.other_environment.id},
    ),
    ("takenslug_never_reused", "takenslug", _same("slug")),
    ("tokentype_one_per_cell", "tokentype", _same("environment")),
    ("tokentype_owner_known", "tokentype", _set(owner="robot")),
    ("tokentype_kind_known", "tokentype", _set(kind="password")),
    ("tokentype_jwt_lifetime_range", "tokentype", _set(jwt_lifetime=59)),
    ("tokentype_jwt_lifetime_range", "tokentype", _set(jwt_lifetime=30 * DAY + 1)),
    ("tokentype_overlap_range", "tokentype", _set(longest_overlap=30 * DAY + 1)),
    ("tokentype_default_never_is_allowed", "tokentype", _set(default_lifetime=None, may_never_expire=False)),
    ("tokentype_default_within_longest", "tokentype", _set(default_lifetime=2 * DAY, longest_lifetime=DAY)),
    ("tokentyperole_once", "tokentyperole", _same("role")),
    (
        "tokentyperole_type_of_environment",
        "tokentyperole",
        lambda s, row: {"environment": s.staging.id, "role": s.world.acme_staging.role("viewer").id},
    ),
    (
        "tokentyperole_role_of_environment",
        "tokentyperole",
        lambda s, row: {"role": s.world.acme_staging.role("viewer").id},
    ),
    ("apitoken_name_unique_per_owner", "apitoken", lambda s, row: {"name_key": row.name_key}),
    # An unknown owner agrees with no columns either; the database names the first of the two.
    ("apitoken_owner_known apitoken_owner_agrees_with_columns", "apitoken", _set(owner="robot")),
    ("apitoken_kind_known", "apitoken", _set(kind="password")),
    ("apitoken_has_name", "apitoken", _set(name="")),
    ("apitoken_has_name", "apitoken", _set(name_key="")),
    ("apitoken_owner_agrees_with_columns", "apitoken", _set(tenant=None)),
    ("apitoken_owner_agrees_with_columns", "apitoken", _set(owner="environment")),
    ("apitoken_owner_agrees_with_columns", "personal", _set(membership=None)),
    ("apitoken_owner_agrees_with_columns", "personal", _set(owner="tenant", granted_through="roles")),
    ("apitoken_owner_agrees_with_columns", "vendors_personal", lambda s, row: {"tenant": s.acme.tenant.id}),
    ("apitoken_owner_agrees_with_columns", "vendors_personal", _set(vendor=None)),
    ("apitoken_only_personal_follow_owner", "apitoken", _set(granted_through="owner", granted=[])),
    ("apitoken_only_personal_follow_owner", "personal", _set(granted=["reports:read"])),
    ("apitoken_only_personal_follow_owner", "personal", _set(granted_through="magic")),
    ("apitoken_expires_after_creation", "apitoken", lambda s, row: {"expires_at": row.created_at}),
    ("apitoken_expires_after_it_begins", "apitoken", lambda s, row: {"not_before": row.expires_at}),
    (
        "apitoken_tenant_of_environment",
        "apitoken",
        lambda s, row: {"tenant": s.world.acme_staging.tenant.id},
    ),
    (
        "apitoken_type_is_its_cell",
        "apitoken",
        lambda s, row: {"token_type": s.production.token_types.get(owner="tenant", kind="access_token").id},
    ),
    (
        "apitoken_type_is_its_cell",
        "apitoken",
        lambda s, row: {"token_type": s.staging.token_types.get(owner="tenant", kind="client_credentials").id},
    ),
    ("apitoken_membership_of_tenant", "personal", lambda s, row: {"membership": s.globex.people["admin"].id}),
    (
        "apitoken_environment_of_vendor",
        "vendors_personal",
        lambda s, row: {"vendor": s.stranger.vendor_id, "vendor_membership": s.stranger.id},
    ),
    ("apitoken_vendor_membership_of_vendor", "vendors_personal", lambda s, row: {"vendor_membership": s.stranger.id}),
    ("apitokenrole_once", "apitokenrole", _same("role")),
    ("apitokenrole_token_scope", "apitokenrole", _set(kind="access_token")),
    (
        "apitokenrole_token_scope",
        "apitokenrole",
        lambda s, row: {"scope_id": s.globex.tenant.id},
    ),
    ("apitokenrole_role_scope", "apitokenrole", lambda s, row: {"role_scope_id": s.acme.tenant.id}),
    (
        "apitokenrole_role_available_to_token",
        "apitokenrole",
        lambda s, row: {"role": s.foreign_own.id, "role_scope_id": s.globex.tenant.id},
    ),
    ("secret_at_most_two_live", "secret", _same("slot")),
    ("secret_slot_until_retired", "secret", _set(slot=3)),
    ("secret_slot_until_retired", "secret", _set(slot=None)),
    ("secret_slot_until_retired", "secret", lambda s, row: {"retired_at": row.created_at}),
    ("secret_is_digest_or_public_key", "secret", _set(digest=None)),
    ("secret_is_digest_or_public_key", "secret", _set(public_key={"kty": "EC"})),
    ("secret_agrees_with_token", "secret", _set(kind="access_token")),
    ("secret_agrees_with_token", "secret", lambda s, row: {"environment": s.staging.id}),
    ("issuenonce_used_once", "issuenonce", _same("digest")),
    ("signingkey_one_active_per_environment", "signingkey", _set(state="active")),
    # Of an unknown state nobody can say whether it is over, so that the other rule refuses it too.
    ("signingkey_state_known signingkey_ended_since", "signingkey", _set(state="lost")),
    ("signingkey_algorithm_known", "signingkey", _set(algorithm="HS256")),
    ("signingkey_active_since signingkey_retiring_since", "signingkey", _set(state="retiring", active_from=None)),
    ("signingkey_retiring_since", "signingkey", _set(state="retiring")),
    ("signingkey_ended_since", "signingkey", _set(state="retired")),
    ("signingkey_ended_since", "signingkey", lambda s, row: {"ended_at": row.created_at}),
    ("statusslot_index_never_reused", "statusslot", _same("index")),
    ("statusslot_once", "statusslot", _same("generation")),
    ("revokedjwt_once", "revokedjwt", _same("jti")),
    ("usedassertion_once", "usedassertion", _same("jti_digest")),
    ("usagehour_once", "usagehour", _same("outcome")),
    ("usagehour_outcome_known", "usagehour", _set(outcome="lost")),
    ("auditevent_actor_has_id_unless_system", "auditevent", _set(actor_id=None)),
    ("auditevent_actor_has_id_unless_system", "auditevent", _set(actor_kind="system")),
    ("auditevent_actor_kind_known", "auditevent", _set(actor_kind="robot")),
    ("auditevent_outcome_known", "auditevent", _set(outcome="maybe")),
    ("auditevent_refusal_has_reason", "auditevent", _set(outcome="refused")),
    ("auditevent_refusal_has_reason", "auditevent", _set(reason="because")),
    ("identityprovider_issuer_form", "identityprovider", _set(issuer="ldap://login.example.com")),
    ("identityprovider_issuer_form", "identityprovider", _set(issuer="https://login.example.com?tenant=acme")),
    ("identityprovider_tenant_of_environment", "identityprovider", lambda s, row: {"environment": s.staging.id}),
    ("identityproviderrole_once", "identityproviderrole", _same("role")),
    ("identityproviderrole_provider_of_tenant", "identityproviderrole", lambda s, row: {"tenant": s.globex.tenant.id}),
    (
        "identityproviderrole_tenant_of_environment",
        "identityproviderrole",
        lambda s, row: {"environment": s.staging.id, "role": s.own.id, "role_scope_id": s.acme.tenant.id},
    ),
    ("identityproviderrole_role_scope", "identityproviderrole", lambda s, row: {"role_scope_id": s.acme.tenant.id}),
    (
        "identityproviderrole_role_available_in_tenant",
        "identityproviderrole",
        lambda s, row: {"role": s.foreign_own.id, "role_scope_id": s.globex.tenant.id},
    ),
    ("user_local_email_unique", "user", lambda s, row: {"email": row.email.upper()}),
    ("user_vouched_identity_unique", "vouched", _same("voucher_user_id")),
    ("user_voucher_and_its_id_together", "vouched", _set(voucher_user_id=None)),
    ("user_voucher_and_its_id_together", "user", _set(voucher_user_id="17")),
    ("user_local_has_email", "user", _set(email=None)),
]


@pytest.mark.parametrize(("names", "good", "change"), ROWS, ids=[f"{row[0].split()[0]}-{row[1]}" for row in ROWS])
def test_the_database_refuses_the_bad_row_and_takes_the_good_one(scene, names, good, change):
    row, fresh = scene.good[good]
    own, bad = fresh(), change(scene, row)
    _refused(row, names.split(), lambda: insert_copy(row, {**own, **bad}))
    key = insert_copy(row, own)
    if good not in NEVER_UPDATED and not NEVER_UPDATED & set(bad):
        _refused(row, names.split(), lambda: update(row, key, bad))


def test_every_named_constraint_of_ours_has_a_row_in_the_table():
    ours = {constraint.name for model in _our_models() for constraint in model._meta.constraints}
    assert {name for row in ROWS for name in row[0].split()} | IMPLIED_BY_PRIMARY_KEY == ours


@pytest.mark.parametrize("name", sorted(IMPLIED_BY_PRIMARY_KEY))
def test_a_key_that_only_composite_foreign_keys_need_begins_with_the_primary_key(db, name):
    model, constraint = _constraint(name)
    assert constraint.fields[0] == model._meta.pk.name
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, model._meta.db_table)
    columns = [model._meta.get_field(field).column for field in constraint.fields]
    assert columns in [key["columns"] for key in found.values() if key["unique"]]


def _our_models():
    for config in apps.get_app_configs():
        if str(settings.BASE_DIR) in config.path and "site-packages" not in config.path:
            yield from config.get_models()


def _constraint(name):
    return next((model, found) for model in _our_models() for found in model._meta.constraints if found.name == name)


def update(row, key, changes):
    values = prepared(row._meta.model, changes)
    sets = ", ".join(f"{connection.ops.quote_name(column)} = %s" for column in values)
    sql = f"UPDATE {row._meta.db_table} SET {sets} WHERE {row._meta.pk.column} = %s"  # noqa: S608 -- ours
    with connection.cursor() as cursor:
        cursor.execute(sql, [*values.values(), key])


def _refused(row, names, act):
    with pytest.raises(IntegrityError) as refusal, transaction.atomic():
        act()
    if ON_SQLITE:
        assert any(said in str(refusal.value) for name in names for said in _said_by_sqlite(name))
    else:
        assert refusal.value.__cause__.diag.constraint_name in names


def _said_by_sqlite(name):
    """SQLite names checks and keys over expressions, names the columns of other keys, and no foreign key."""
    model, constraint = _constraint(name)
    if isinstance(constraint, CompositeForeignKey):
        return ["FOREIGN KEY constraint failed"]
    if isinstance(constraint, CheckConstraint):
        return [f"CHECK constraint failed: {name}"]
    assert isinstance(constraint, UniqueConstraint)
    columns = [f"{model._meta.db_table}.{model._meta.get_field(field).column}" for field in constraint.fields]
    return [f"UNIQUE constraint failed: {', '.join(columns)}"] if columns else [f"index '{name}'"]
