"""What a token that is being filled in would be allowed to do, until when and for whose sake; nothing is made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from apitokens import services
from apitokens.ceiling import GRANTABLE, Decided
from apitokens.models import ApiToken, Kind, Owner
from apitokens.pages.forms import TokenForm
from apitokens.pages.places import PagePrincipal
from apitokens.pages.words import at_moment, in_words
from audit.services import Refusal
from audit.words import listed
from tenants.models import Permission


@dataclass(frozen=True, kw_only=True)
class Preview:
    """`because` says why it can't be made as it is; then there is nothing else to say."""

    because: Sequence[str] = ()
    permissions: Sequence[Permission] = ()
    limits: Sequence[str] = ()
    endings: Sequence[str] = field(default=())

    @property
    def count(self) -> str:
        count = len(self.permissions)
        words = ngettext("%(count)d permission, and no other", "%(count)d permissions, and no others", count)
        return words % {"count": count}


def preview_of(form: TokenForm, principal: PagePrincipal, *, at: datetime) -> Preview | None:
    """Of a form that was sent, however much of it is filled in; None while there is too little to tell."""
    wrong = [
        _("%(name)s: %(what)s") % {"name": form[name].label, "what": error}
        for name, errors in form.errors.items()
        if name in form.judged
        for error in errors
    ]
    order = form.draft()
    if wrong or order is None:
        return Preview(because=wrong) if wrong else None
    try:
        token, decided = services.preview(by=principal, tenant=principal.tenant, order=order, at=at)
    except Refusal as refusal:
        return Preview(because=[str(refusal)])
    return Preview(
        permissions=_permissions(principal, token, decided),
        limits=_limits(token),
        endings=_endings(principal, token, decided),
    )


def _permissions(principal: PagePrincipal, token: ApiToken, decided: Decided) -> list[Permission]:
    """The vendor's own first."""
    keys = principal.permissions if decided.through == "owner" else decided.granted
    grantable = {GRANTABLE[Owner(token.owner)]: True}
    found = Permission.objects.filter(environment=principal.environment, key__in=keys, **grantable)
    return sorted(found, key=lambda each: (each.is_built_in, each.key))


def _limits(token: ApiToken) -> list[str]:
    lines = []
    if token.not_before:
        lines.append(_("It is refused before %(at)s.") % {"at": at_moment(token.not_before)})
    if token.expires_at:
        lines.append(_("It expires on %(at)s.") % {"at": at_moment(token.expires_at)})
    else:
        lines.append(_("It never expires: somebody has to end it."))
    if token.ip_allowlist:
        lines.append(_("It works only from %(networks)s.") % {"networks": listed(token.ip_allowlist)})
    else:
        lines.append(_("It works from anywhere."))
    if token.audiences:
        lines.append(_("It is only for %(apis)s.") % {"apis": listed(token.audiences)})
    return lines


def _endings(principal: PagePrincipal, token: ApiToken, decided: Decided) -> list[str]:
    """Who loses access, and when."""
    tenant = {"tenant": principal.tenant.name if principal.tenant else ""}
    match token.owner:
        case Owner.TENANT:
            lines = [_("It belongs to %(tenant)s and goes on when you leave. Its administrators can stop it.") % tenant]
        case Owner.USER:
            lines = [
                _("It is yours: when you leave %(tenant)s it stops at once, and is deleted after seven days.") % tenant,
                _("It may never do more than you: what you lose, it loses at once."),
            ]
        case _:
            lines = [_("It belongs to the environment and goes on whoever of you leaves.")]
    match decided.through:
        case "owner":
            lines.append(_("It follows you: what you are given later, it has too."))
        case "permissions":
            lines.append(_("Its permissions stay as they are, whatever becomes of the roles."))
        case _:
            names = listed(sorted(role.name for role in decided.roles))
            lines.append(
                _("What is taken from %(roles)s later, it loses at once. What is added, it gets when somebody says so.")
                % {"roles": names}
            )
    if token.kind == Kind.CLIENT_CREDENTIALS:
        lines.append(
            _("Once it is stopped, services that check its JWTs offline may accept them for up to %(time)s.")
            % {"time": in_words(token.token_type.jwt_lifetime)}
        )
    return lines
