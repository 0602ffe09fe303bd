"""The invitation itself: a one-time link to a membership, sent by mail or handed to who made it (R1).

The link's nonce is in the link alone; a digest of it is stored. Whether somebody may invite, and to what, is decided
by the callers.
"""

import logging
import secrets
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from smtplib import SMTPException
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts import languages
from accounts.models import User
from apitokens.changing import record_change
from apitokens.orders import InvalidField
from apitokens.principals import Principal
from apitokens.querysets import WITH_STANDING
from audit.actors import SYSTEM
from audit.services import Refusal
from tenants.models import Environment, Invitation, Membership, Tenant, Vendor, VendorMembership

logger = logging.getLogger("tallystick.invitations")
VALID_FOR = timedelta(days=7)
OPEN_AT_MOST = 200
EMAIL_MAX = 254


class TooManyInvitations(Refusal):
    code = "too_many_invitations"

    def __init__(self) -> None:
        super().__init__(
            _("There are %(count)s open invitations, as many as there may be: revoke one first.")
            % {"count": OPEN_AT_MOST}
        )


class NotSent(Refusal):
    """The mail server took nothing; the invitation is withdrawn, since nobody has its link."""

    code = "mail_failed"
    is_denial = False

    def __init__(self) -> None:
        super().__init__(_("The e-mail could not be sent, and nobody was invited. Try again in a few minutes."))


@dataclass(frozen=True, kw_only=True)
class Invited:
    """The row beside its link, which is in this one answer; None where it went out by mail."""

    invitation: Invitation
    link: str | None = field(repr=False)


def digest_of(key: str) -> bytes:
    return sha256(key.encode()).digest()


def clean_email(text: str) -> str:
    """As accounts keep it, with the domain in lower case; raises InvalidField."""
    email = User.objects.normalize_email(text.strip())
    try:
        validate_email(email)
    except ValidationError as error:
        raise InvalidField("email", _("This is no e-mail address, such as ada@example.com.")) from error
    if len(email) > EMAIL_MAX:
        raise InvalidField("email", _("An e-mail address has at most %(most)s characters.") % {"most": EMAIL_MAX})
    return email


def open_in(place: Tenant | Vendor) -> QuerySet[Invitation]:
    """Not accepted yet; expired ones too, which a new one to the same person replaces."""
    if isinstance(place, Tenant):
        return Invitation.objects.filter(tenant=place, accepted_at__isnull=True)
    return Invitation.objects.filter(vendor=place, tenant__isnull=True, accepted_at__isnull=True)


def make(
    *,
    by: Principal,
    place: Tenant | Vendor,
    email: str,
    at: datetime,
    vendor_role: str = "",
    in_all_environments: bool = True,
) -> tuple[Invitation, str]:
    """The row and its key, in the caller's transaction, which holds the place; the open one to that person goes."""
    standing = open_in(place)
    for replaced in standing.filter(email__iexact=email):
        record_change(
            by,
            "invitation.replaced" if replaced.tenant_id else "vendor_invitation.replaced",
            target_kind="invitation",
            target_id=replaced.id,
            tenant=place if isinstance(place, Tenant) else None,
        )
        replaced.delete()
    if standing.filter(expires_at__gt=at).count() >= OPEN_AT_MOST:
        raise TooManyInvitations
    tenant = place if isinstance(place, Tenant) else None
    key = secrets.token_urlsafe(32)
    invitation = Invitation.objects.create(
        vendor=place.environment.vendor if isinstance(place, Tenant) else place,
        environment=tenant.environment if tenant else None,
        tenant=tenant,
        email=email,
        vendor_role=vendor_role,
        in_all_environments=in_all_environments,
        digest=digest_of(key),
        sender_membership=by.membership,
        sender_vendor_membership=by.vendor_membership,
        sender_token_id=by.token.id if by.token else None,
        created_at=at,
        expires_at=at + VALID_FOR,
    )
    return invitation, key


def stands_for(
    *,
    environment: Environment,
    tenant: Tenant | None,
    membership: Membership | None,
    vendor_membership: VendorMembership | None,
    token_id: UUID | None,
) -> Principal:
    """Whoever made an offer, as a grantor at another time: what they hold then is read anew. None of all: the system.

    A token that is gone hands nothing out any more.
    """
    return Principal(
        actor=SYSTEM,
        environment=environment,
        tenant=tenant,
        permissions=frozenset(),
        membership=membership,
        vendor_membership=vendor_membership,
        token=WITH_STANDING.first(pk=token_id) if token_id else None,
        is_system=not any((membership, vendor_membership, token_id)),
    )


def deliver(*, by: Principal, invitation: Invitation, key: str, to: str) -> Invited:
    """Mail the link or, where no mail is configured, return it. `to` is the name of what the person is invited to.

    Call it after the transaction: a mail can't be taken back, and a slow server must hold no locks.
    """
    link = f"{settings.ORIGIN}/invitations/{key}/"
    if not settings.SENDS_MAIL:
        return Invited(invitation=invitation, link=link)
    try:
        with languages.for_mail_to(invitation.email):
            _mail(by=by, email=invitation.email, to=to, link=link)
    except (SMTPException, OSError) as error:
        logger.error("an invitation could not be mailed: %s", type(error).__name__)
        with transaction.atomic():
            record_change(
                by,
                "invitation.withdrawn",
                target_kind="invitation",
                target_id=invitation.id,
                tenant=invitation.tenant,
                after={"because": NotSent.code},
            )
            invitation.delete()
        raise NotSent from error
    return Invited(invitation=invitation, link=None)


def _mail(*, by: Principal, email: str, to: str, link: str) -> None:
    said = {"who": by.actor.label or _("An administrator"), "to": to, "link": link, "count": VALID_FOR.days}
    text = ngettext(
        "%(who)s invites you to %(to)s.\n\n"
        "Open this link to accept. It works once, for %(count)s day, and only for you:\n\n%(link)s\n\n"
        "If you did not expect this, do nothing.\n",
        "%(who)s invites you to %(to)s.\n\n"
        "Open this link to accept. It works once, for %(count)s days, and only for you:\n\n%(link)s\n\n"
        "If you did not expect this, do nothing.\n",
        VALID_FOR.days,
    )
    send_mail(subject=_("Invitation to %(to)s") % said, message=text % said, from_email=None, recipient_list=[email])
