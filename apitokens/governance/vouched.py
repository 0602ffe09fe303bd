"""People whom somebody else vouches for: an environment's backend, or a tenant's identity provider (R12).

A person is the pair of voucher and the voucher's own, immutable id of them. E-mail and name are what was said of them
last; nobody is ever found by these, and they lead to nobody else. Called inside the caller's transaction, which
decides beforehand, under its locks, what the voucher may open and which roles it gives.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.contrib.auth.hashers import make_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email

from accounts.models import User
from apitokens.orders import InvalidField
from audit.services import remember
from tenants.models import Membership, Tenant
from tenants.queries import lock

ID_MAX = 255
EMAIL_MAX = 254
NAME_MAX = 150


@dataclass(frozen=True, kw_only=True)
class Vouched:
    """What a voucher says of a person; `who` is its own id of them."""

    voucher_id: UUID
    who: str
    email: str | None
    name: str


def said(*, voucher_id: UUID, who: str, email: str = "", name: str = "") -> Vouched:
    """Bounded and cleaned; raises InvalidField for an id that can't be one. The rest is dropped where it is no good."""
    if not who or len(who) > ID_MAX or not who.isprintable():
        raise InvalidField("user", f"A person's id is 1 to {ID_MAX} visible characters.")
    return Vouched(voucher_id=voucher_id, who=who, email=_email(email), name=_name(name))


def known(word: Vouched) -> User | None:
    """The person as they were the last time, if they were vouched for before."""
    return User.objects.filter(voucher_id=word.voucher_id, voucher_user_id=word.who).first()


def changed(was: User | None, user: User) -> dict[str, object]:
    """What is said of them otherwise than the last time, for the record: that it is, not what."""
    names = [name for name in ("email", "name") if was and getattr(was, name) != getattr(user, name)]
    return {"changed": names} if names else {}


def identify(word: Vouched, *, at: datetime) -> User:
    """The person, made when first vouched for, with the e-mail and the name that were said last.

    Two who arrive at once are one: the constraint decides, and the second finds the first. Raises InvalidField for
    somebody who may not sign in any more.
    """
    user, is_new = User.objects.get_or_create(
        voucher_id=word.voucher_id,
        voucher_user_id=word.who,
        defaults={"email": word.email, "name": word.name, "password": make_password(None), "created_at": at},
    )
    if not user.is_active:
        raise InvalidField("user", "This person's account is closed.")
    if not is_new and (user.email, user.name) != (word.email, word.name or user.name):
        user.email, user.name = word.email, word.name or user.name
        user.save(update_fields=["email", "name"])
        remember(user.id, str(user))
    return user


def membership_of(user: User, tenant: Tenant) -> Membership | None:
    """Theirs in the tenant, ended ones too, held exclusively. The caller holds the tenant, so that none is made beside.

    The locks go on in the order of `governance`: the tenant, the member, the grantor, the roles.
    """
    member = Membership.objects.filter(tenant=tenant, user=user).first()
    if member is None:
        return None
    lock(member)
    return Membership.objects.select_related("tenant__environment", "environment", "user").get(pk=member.pk)


def _email(text: str) -> str | None:
    text = text.strip()
    try:
        validate_email(text)
    except ValidationError:
        return None
    return text if len(text) <= EMAIL_MAX else None


def _name(text: str) -> str:
    """On one line, without what is not visible, and cut."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:NAME_MAX].strip()
