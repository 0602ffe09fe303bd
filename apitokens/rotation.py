"""R7: a new version of a token's proof beside the old one, and the end of either; each of them one transaction.

Both work until the deadline of the old one, which is computed at each use: complete early, cancel, or let it pass.
"""

from datetime import datetime, timedelta

from django.utils.translation import gettext as _

from apitokens import ceiling, policy, services, versions
from apitokens.changing import AlreadySo
from apitokens.models import ApiToken, IssueNonce, Owner, Secret
from apitokens.orders import Expiry, InvalidField
from apitokens.principals import Principal
from apitokens.versions import Rotation
from audit.services import Detail, Refusal
from tenants.policy import Grantor, check_holds, check_permissions

SELF_ROTATE = "token:self:rotate"
# Whose old secret was used so lately probably has a server that does not know the new one.
STILL_USED = timedelta(hours=1)


class RotationUnderWay(Refusal):
    """At most two live versions (R7). A compromised token is rotated all the same."""

    code = "rotation_under_way"
    is_denial = False

    def __init__(self, deadline: datetime) -> None:
        super().__init__(
            _(
                "A rotation is under way until %(deadline)s UTC: complete or cancel it first. If the secret is "
                "compromised, say so, and every other one stops at once."
            )
            % {"deadline": f"{deadline:%Y-%m-%d %H:%M}"}
        )
        self.deadline = deadline


class NoRotation(AlreadySo):
    code = "no_rotation"

    def __init__(self) -> None:
        super().__init__(_("No rotation is under way: it was completed or cancelled, or its deadline has passed."))


class StillUsed(Refusal):
    """Completing now would stop whoever uses the old version still."""

    code = "old_secret_in_use"
    is_denial = False

    def __init__(self, old: Secret) -> None:
        when = f"{old.last_used_at:%Y-%m-%d %H:%M} UTC"
        if old.last_used_ip:
            text = _(
                "The old secret was used within the last hour (%(when)s, from %(ip)s): whatever uses it stops when you "
                "complete. Give it the new secret first, or complete all the same."
            )
        else:
            text = _(
                "The old secret was used within the last hour (%(when)s): whatever uses it stops when you complete. "
                "Give it the new secret first, or complete all the same."
            )
        super().__init__(text % {"when": when, "ip": old.last_used_ip})
        self.last_used_at, self.last_used_ip = old.last_used_at, old.last_used_ip


def rotate(
    *,
    by: Principal,
    token: ApiToken,
    at: datetime,
    overlap: int | None = None,
    expiry: Expiry | None = None,
    compromised: bool = False,
    public_key: str | None = None,
    nonce: str | None = None,
) -> services.Issued:
    """A new version of its proof, beside which the old one works for `overlap` seconds more (R7). Granting (R3).

    Without an `overlap` a day, or as long as the type allows. Of a compromised one every other version and every JWT
    is dead at once. A token that rotates itself (`token:self:rotate`) keeps its expiry.
    """
    ceiling.check_confirmed(by, at=at)
    asked: Detail = {"overlap": overlap, "compromised": compromised, "is_public_key": public_key is not None}
    with services.changing_token(by, "apitoken.rotated", token.tenant, token, asked=asked):
        used = services.claim(by, nonce, "rotate", token)
        by, token, grantor = services.locked(by, token, at)
        is_itself = _check_may_rotate(by, token, grantor, at)
        if token.owner == Owner.USER and not is_itself and by.membership != token.membership:
            raise ceiling.NotItsOwner
        old = versions.held(token, at)
        if len(old) > 1 and not compromised:
            raise RotationUnderWay(min(row.expires_at for row in old if row.expires_at))
        before = _snapshot(token, old)
        if expiry is not None:
            if is_itself:
                raise InvalidField("expires_at", _("A token that rotates itself keeps its expiry."))
            token.expires_at = ceiling.expiry_of(token.parent, token.token_type, expiry, at)
            ceiling.check_begins_before_it_ends(token)
        ceiling.check_no_wider(by, token)
        _end_old(token, old, at, overlap, compromised=compromised)
        key = versions.public_key_of(token.kind, public_key) if public_key is not None else None
        plaintext = versions.add(token, by, at, public_key=key)
        versions.forget_oldest(token)
        if compromised:
            token.generation += 1
        token.save(update_fields=["expires_at", "generation"])
        if used:
            IssueNonce.objects.filter(pk=used.pk).update(token_id=token.id)
        after = _snapshot(token, versions.held(token, at))
        services.record_on(by, "apitoken.rotated", token, before=before, after={**after, "compromised": compromised})
        if expiry is not None:
            services.cap_children(by, token, at=at)
    return services.Issued(token=token, plaintext=plaintext)


def complete(*, by: Principal, token: ApiToken, at: datetime, even_if_used: bool = False) -> ApiToken:
    """The old version stops before its deadline. Only stops something, and so takes what deleting takes (R3).

    Raises NoRotation, or StillUsed if somebody used the old version within the last hour.
    """
    ceiling.check_confirmed(by, at=at)
    with services.changing_token(by, "apitoken.rotation_completed", token.tenant, token):
        by, token, grantor = services.locked(by, token, at)
        if not _rotates_itself(by, token, grantor):
            check_holds(grantor, services.needs(by, token, "delete"))
        found, before = _locked_rotation(token, at)
        if not even_if_used and is_still_used(found.old, at):
            raise StillUsed(found.old)
        versions.retire([found.old], at)
        versions.forget_oldest(token)
        _record_end(by, "apitoken.rotation_completed", token, at, before)
    return token


def cancel(*, by: Principal, token: ApiToken, at: datetime) -> ApiToken:
    """The new version dies, and the old one goes on without a deadline: granting, like rotating (R3)."""
    ceiling.check_confirmed(by, at=at)
    with services.changing_token(by, "apitoken.rotation_cancelled", token.tenant, token):
        by, token, grantor = services.locked(by, token, at)
        _check_may_rotate(by, token, grantor, at)
        ceiling.check_no_wider(by, token)
        found, before = _locked_rotation(token, at)
        versions.retire([found.new], at)
        versions.forget_oldest(token)
        versions.limit([found.old], None)
        _record_end(by, "apitoken.rotation_cancelled", token, at, before)
    return token


def _end_old(token: ApiToken, old: list[Secret], at: datetime, overlap: int | None, *, compromised: bool) -> None:
    """At once, or when the overlap is over and no later than the token itself; raises InvalidField."""
    left = ceiling.overlap_of(token.token_type, 0 if compromised and overlap is None else overlap)
    if compromised and left:
        raise InvalidField("overlap", _("What is compromised stops at once: leave the overlap at 0."))
    if left:
        versions.limit(old, at + left if token.expires_at is None else min(at + left, token.expires_at))
    else:
        versions.retire(old, at)


def is_still_used(secret: Secret, at: datetime) -> bool:
    """Whether somebody used it so lately that its end would stop them."""
    return secret.last_used_at is not None and secret.last_used_at > at - STILL_USED


def _rotates_itself(by: Principal, token: ApiToken, grantor: Grantor) -> bool:
    """By that permission a token rotates itself and does nothing else; it needn't be one that makes tokens."""
    return by.token is not None and by.token.pk == token.pk and SELF_ROTATE in grantor.permissions


def _check_may_rotate(by: Principal, token: ApiToken, grantor: Grantor, at: datetime) -> bool:
    """R3 on all that the token may do; whether it is the token itself that asks.

    Itself, it covers what it may do now, unless it is a JWT narrowed to less, which must not become the whole token.
    """
    is_itself = _rotates_itself(by, token, grantor)
    if not is_itself:
        check_holds(grantor, services.needs(by, token, "create"))
        ceiling.check_may_make(by, token)
        ceiling.check_its_owner(by, token)
    if token.expires_at and token.expires_at <= at:
        raise services.Expired
    if is_itself:
        check_permissions(grantor, policy.effective_permissions(policy.Standing.of(token)).permissions)
    else:
        ceiling.check_covers(grantor, token)
    return is_itself


def _locked_rotation(token: ApiToken, at: datetime) -> tuple[Rotation, Detail]:
    """The rotation, its two versions locked, and how it stands; raises NoRotation."""
    live = versions.held(token, at)
    if (rotation := versions.rotation_among(live, at)) is None:
        raise NoRotation
    return rotation, _snapshot(token, live)


def _record_end(by: Principal, verb: str, token: ApiToken, at: datetime, before: Detail) -> None:
    services.record_on(by, verb, token, before=before, after=_snapshot(token, versions.held(token, at)))


def _snapshot(token: ApiToken, live: list[Secret]) -> dict[str, object]:
    deadline = next((row.expires_at for row in live if row.expires_at), None)
    return {
        "secrets": versions.described(live),
        "deadline": deadline.isoformat() if deadline else None,
        "expires_at": token.expires_at.isoformat() if token.expires_at else None,
    }
