"""Tenants of an environment: made, changed, stopped and ended by whoever acts for the whole of it."""

import re
import unicodedata
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import datetime, timedelta

from django.db.models import F, Q
from django.utils.translation import gettext as _

from apitokens import ceiling, services, setup
from apitokens.changing import AlreadySo, Taken, Unique, changing, check_version, record_change
from apitokens.governance import environments
from apitokens.governance.environments import TooLate, check_typed_name, clean_slug
from apitokens.orders import NAME_MAX, Expiry, InvalidField, clean_name
from apitokens.principals import Principal
from audit.services import Detail
from tenants.models import UUID_FORM, Environment, Tenant
from tenants.policy import Grantor, check_holds
from tenants.queries import lock

# How long a deleted one can be restored; then housekeeping erases it.
HELD_FOR = timedelta(days=30)
EXTERNAL_ID_MAX = 255
DEFAULT_CLIENT = "Default client"
# How PostgreSQL and SQLite name them in their errors.
NAME_TAKEN = ("tenant_name_unique_in_environment",)
SLUG_TAKEN = ("tenants_tenant_slug", "tenants_tenant.slug", "takenslug_never_reused", "tenants_takenslug.kind")
EXTERNAL_ID_TAKEN = ("tenant_external_id_unique", "tenants_tenant.external_id")


def create(*, by: Principal, name: str, slug: str, external_id: str | None, at: datetime) -> Tenant:
    """A new tenant; with a client of its own, if the environment has a role for the clients of new tenants.

    That client has no secret: its first new secret, made by whoever may, is shown to them (R1).
    """
    asked = {"name": name, "slug": slug, "external_id": external_id}
    unique = _taken(name, slug, external_id or "")
    with changing(by, "tenant.created", target_kind="tenant", asked=asked, unique=unique):
        ceiling.check_environment_wide(by, by.environment)
        by, grantor = ceiling.grantor_of(by, at=at)
        check_holds(grantor, "tenants:create")
        environment = Environment.objects.get(pk=by.environment.pk)
        tenant = setup.create_tenant(
            actor=by.actor,
            environment=environment,
            name=clean_name(name),
            slug=clean_slug(slug),
            external_id=_clean_external_id(external_id or ""),
        )
        _make_default_client(by, tenant, at)
    return tenant


def edit(
    *,
    by: Principal,
    tenant: Tenant,
    at: datetime,
    name: str | None = None,
    external_id: str | None = None,
    expected: str | Sequence[str] | None = None,
) -> Tenant:
    """Change what is given and leave the rest; an empty external id takes it away."""
    with _changing(by, "tenant.edited", tenant, unique=_taken(name or "", "", external_id or "")):
        by, tenant, grantor = _locked(by, tenant, at)
        check_holds(grantor, "tenants:create")
        before = snapshot(tenant)
        check_version(expected, before)
        if name is not None:
            tenant.name = clean_name(name)
        if external_id is not None:
            tenant.external_id = _clean_external_id(external_id)
        tenant.save(update_fields=["name", "external_id"])
        after = snapshot(tenant)
        if after != before:
            _record(by, "tenant.edited", tenant, before, after)
    return tenant


def suspend(*, by: Principal, tenant: Tenant, at: datetime) -> Tenant:
    """Its people and tokens can do nothing until it is reinstated; JWTs issued until now stay dead (R5)."""
    with _changing(by, "tenant.suspended", tenant):
        by, tenant, grantor = _locked(by, tenant, at)
        check_holds(grantor, "tenants:delete")
        if tenant.suspended_at is not None:
            raise AlreadySo(_("%(name)s is suspended already.") % {"name": tenant.name})
        return _stop(by, "tenant.suspended", tenant, suspended_at=at)


def reinstate(*, by: Principal, tenant: Tenant, at: datetime) -> Tenant:
    with _changing(by, "tenant.reinstated", tenant):
        by, tenant, grantor = _locked(by, tenant, at)
        check_holds(grantor, "tenants:create")
        if tenant.suspended_at is None:
            raise AlreadySo(_("%(name)s is not suspended.") % {"name": tenant.name})
        return _resume(by, "tenant.reinstated", tenant, "suspended_at")


def delete(*, by: Principal, tenant: Tenant, typed_name: str, at: datetime) -> Tenant:
    """It stops at once, and is erased once it has been on hold for `HELD_FOR`."""
    with _changing(by, "tenant.deleted", tenant):
        by, tenant, grantor = _locked(by, tenant, at, even_if_deleted=True)
        check_holds(grantor, "tenants:delete")
        if tenant.deleted_at is not None:
            raise AlreadySo(_("%(name)s is deleted already.") % {"name": tenant.name})
        check_typed_name(typed_name, tenant.name)
        return _stop(by, "tenant.deleted", tenant, deleted_at=at)


def restore(*, by: Principal, tenant: Tenant, at: datetime) -> Tenant:
    """Within the hold: as it was, suspended if it was; JWTs issued before stay dead."""
    with _changing(by, "tenant.restored", tenant):
        by, tenant, grantor = _locked(by, tenant, at, even_if_deleted=True)
        check_holds(grantor, "tenants:create")
        if tenant.deleted_at is None:
            raise AlreadySo(_("%(name)s is not deleted.") % {"name": tenant.name})
        if not can_be_restored(tenant, at):
            raise TooLate(tenant.name)
        return _resume(by, "tenant.restored", tenant, "deleted_at")


def can_be_restored(tenant: Tenant, at: datetime) -> bool:
    return tenant.deleted_at is not None and at < tenant.deleted_at + HELD_FOR


def called_like(wanted: str) -> Q:
    """Those with it anywhere in their names, or at the beginning of their external ids or slugs."""
    wanted = wanted.replace("\0", "").strip()[:NAME_MAX]
    return Q(name__icontains=wanted) | Q(external_id__istartswith=wanted) | Q(slug__startswith=wanted.lower())


def snapshot(tenant: Tenant) -> dict[str, object]:
    """Also what an ETag and a form's version stand for."""
    return {
        "name": tenant.name,
        "external_id": tenant.external_id,
        "suspended_at": tenant.suspended_at.isoformat() if tenant.suspended_at else None,
        "deleted_at": tenant.deleted_at.isoformat() if tenant.deleted_at else None,
    }


def _make_default_client(by: Principal, tenant: Tenant, at: datetime) -> None:
    """Granted by the environment, whose people chose the role: not by whoever makes the tenant, and none of theirs.

    Where the token type has come to forbid such a client since, there is none: what the vendor forbids is stronger.
    """
    role = environments.default_role_of(tenant.environment)
    if role is None or (token_type := environments.default_client_type(tenant.environment, role)) is None:
        return
    may_live_for_ever = Expiry(never=True) if token_type.may_never_expire else Expiry()
    expiry = may_live_for_ever if token_type.longest_lifetime is None else Expiry(seconds=token_type.longest_lifetime)
    services.make_without_secret(
        by=by,
        tenant=tenant,
        token_type=token_type,
        role=role,
        name=DEFAULT_CLIENT,
        expires_at=expiry.settle(token_type, now=at),
        at=at,
    )


def _clean_external_id(external_id: str) -> str | None:
    """None for an empty one. Never of the form of our own ids, so that neither is taken for the other."""
    text = unicodedata.normalize("NFC", external_id).strip()
    if not text:
        return None
    if len(text) > EXTERNAL_ID_MAX:
        raise InvalidField(
            "external_id", _("An external id has at most %(most)s characters.") % {"most": EXTERNAL_ID_MAX}
        )
    if any(unicodedata.category(character).startswith("C") for character in text):
        raise InvalidField("external_id", _("An external id can't have control or invisible characters."))
    if re.fullmatch(UUID_FORM, text):
        raise InvalidField(
            "external_id",
            _("This has the form of our own ids: give it a prefix, such as customer-, to tell them apart."),
        )
    return text


def _taken(name: str, slug: str, external_id: str) -> Unique:
    return {
        NAME_TAKEN: Taken(
            "name", _("There is a tenant named %(name)s here already: choose another name.") % {"name": name.strip()}
        ),
        SLUG_TAKEN: Taken(
            "slug",
            _("%(slug)s is or was in use, and an address is never used again: choose another one.") % {"slug": slug},
        ),
        EXTERNAL_ID_TAKEN: Taken(
            "external_id",
            _("Another tenant here has the external id %(external_id)s.") % {"external_id": external_id.strip()},
        ),
    }


def _changing(
    by: Principal, verb: str, tenant: Tenant, *, unique: Unique | None = None
) -> AbstractContextManager[None]:
    return changing(by, verb, target_kind="tenant", target_id=tenant.id, tenant=tenant, unique=unique)


def _locked(
    by: Principal, tenant: Tenant, at: datetime, *, even_if_deleted: bool = False
) -> tuple[Principal, Tenant, Grantor]:
    """Who asks, the tenant, held exclusively, and the grantor, as they are now; in an environment that is not deleted.

    `even_if_deleted` is about the tenant.
    """
    ceiling.check_environment_wide(by, tenant.environment)
    lock(tenant)
    by, grantor = ceiling.grantor_of(by, at=at, tenant=None if even_if_deleted else tenant)
    now = Tenant.objects.select_related("environment").filter(pk=tenant.pk).first()
    if now is None:
        raise services.Gone
    return by, now, grantor


def _stop(by: Principal, verb: str, tenant: Tenant, **changed: datetime) -> Tenant:
    before = snapshot(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(**changed, generation=F("generation") + 1)
    return _changed(by, verb, tenant, before)


def _resume(by: Principal, verb: str, tenant: Tenant, column: str) -> Tenant:
    before = snapshot(tenant)
    Tenant.objects.filter(pk=tenant.pk).update(**{column: None})
    return _changed(by, verb, tenant, before)


def _changed(by: Principal, verb: str, tenant: Tenant, before: Detail) -> Tenant:
    tenant.refresh_from_db()
    _record(by, verb, tenant, before, snapshot(tenant))
    return tenant


def _record(by: Principal, verb: str, tenant: Tenant, before: Detail, after: Detail) -> None:
    record_change(by, verb, target_kind="tenant", target_id=tenant.id, tenant=tenant, before=before, after=after)
