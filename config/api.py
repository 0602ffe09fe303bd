"""The one table from what went wrong to what HTTP says of it: problem details (RFC 9457) for the API."""

from http import HTTPStatus

from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import Http404
from django.urls import reverse
from rest_framework import exceptions
from rest_framework.response import Response

from apitokens import ceiling, changing, credentials, policy, rotation, services
from apitokens.api.acting import NeedsToken
from apitokens.api.authentication import BadCredential, Caller, TooManyRefusals
from apitokens.governance import (
    copying,
    environments,
    in_use,
    invitations,
    members,
    offers,
    permissions,
    portal_sessions,
    signing_keys,
    sso,
    vendor_members,
)
from apitokens.orders import InvalidField
from audit.services import Refusal
from console.doors import Switched
from tenants.policy import PermissionAboveCeiling, PermissionMissing, RoleAboveCeiling, WidensOwnRole

STATUS: dict[type[Refusal], int] = {
    PermissionMissing: 403,
    RoleAboveCeiling: 403,
    PermissionAboveCeiling: 403,
    policy.RoleNotCarried: 403,
    ceiling.TokenTypeDisabled: 403,
    ceiling.MayNotMakeTokens: 403,
    ceiling.NotItsOwner: 403,
    ceiling.OutOfReach: 403,
    ceiling.OutOfPolicy: 403,
    ceiling.WiderThanCaller: 403,
    ceiling.WiderThanParent: 409,
    NeedsToken: 403,
    ceiling.QuotaReached: 409,
    services.NameTaken: 409,
    services.AlreadyIssued: 409,
    services.Gone: 404,
    services.Expired: 409,
    rotation.RotationUnderWay: 409,
    rotation.StillUsed: 409,
    changing.Stale: 412,
    changing.AlreadySo: 409,
    changing.Taken: 409,
    members.LastOwner: 409,
    members.OwnRoles: 403,
    members.AlreadyMember: 409,
    offers.TooManyInvitations: 409,
    offers.NotSent: 503,
    invitations.InvitationUsed: 409,
    invitations.InvitationExpired: 410,
    invitations.InvitationVoid: 409,
    invitations.NotOpen: 409,
    invitations.WrongPerson: 403,
    invitations.AccountExists: 409,
    vendor_members.EnvironmentAboveCeiling: 403,
    portal_sessions.OnlyForBackends: 403,
    portal_sessions.MemberSuspended: 403,
    Switched: 409,
    copying.NotOfBoth: 403,
    environments.InsideOne: 403,
    environments.OwnersOnly: 403,
    environments.OwnersAndAdminsOnly: 403,
    ceiling.Deleted: 409,
    environments.TooLate: 409,
    environments.LastEnvironment: 409,
    sso.NotFromOutside: 403,
    sso.NoEntry: 403,
    sso.AnotherPerson: 403,
    signing_keys.SuccessorWaits: 409,
    signing_keys.TooManyKeys: 409,
    WidensOwnRole: 403,
    in_use.InUse: 409,
    in_use.TooMany: 409,
    permissions.BuiltIn: 409,
    InvalidField: 400,
}


def status_of(refusal: Refusal) -> int:
    """The status of the refusal or of the nearest class it derives from."""
    return next(STATUS[kind] for kind in type(refusal).__mro__ if kind in STATUS)


def errors_of(refusal: Refusal) -> dict[str, list[str]]:
    """{field: [message]}, empty when no field is at fault."""
    return {refusal.field: [str(refusal)]} if refusal.field else {}


def problem_response(error: Exception, context: dict[str, object]) -> Response | None:
    """Django REST framework's exception handler; None lets a fault of ours become a 500."""
    if isinstance(error, Refusal):
        response = _of_refusal(error)
    elif isinstance(error, ceiling.NotConfirmed):
        confirm_at = settings.ORIGIN + _confirming_page(context)
        response = _problem(403, error.code, str(error), confirm_at=confirm_at)
    elif isinstance(error, Http404):
        response = _problem(404, "not_found", "There is no such thing here, or it is not yours.")
    elif isinstance(error, PermissionDenied):
        response = _problem(403, "permission_denied", str(error) or "You may not do this.")
    elif isinstance(error, exceptions.APIException):
        response = _of_framework(error)
    else:
        return None
    _link_token(response, context)
    return response


def _confirming_page(context: dict[str, object]) -> str:
    """Where the person shows again who they are: here, or by the provider that vouches for them."""
    caller = getattr(context.get("request"), "_user", None)
    person = caller.user if isinstance(caller, Caller) else None
    provider = sso.vouching_for(person) if person else None
    if provider is not None:
        return reverse("portal:sign-in", args=[provider.tenant.slug])
    return reverse("account_reauthenticate")


def _problem(status: int, code: str, detail: str, **members: object) -> Response:
    """What was sent may be named in it, but never a secret that was sent in the wrong place (R1)."""
    body = {
        "type": f"urn:tallystick:problem:{code}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": credentials.redacted(detail),
        "code": code,
        **members,
    }
    if isinstance(errors := members.get("errors"), dict):
        body["errors"] = {
            credentials.redacted(field): [credentials.redacted(message) for message in messages]
            for field, messages in errors.items()
        }
    headers = {"Cache-Control": "no-store"}
    return Response(body, status=status, content_type="application/problem+json", headers=headers)


def _of_refusal(refusal: Refusal) -> Response:
    members: dict[str, object] = {}
    if errors := errors_of(refusal):
        members["errors"] = errors
    if isinstance(refusal, PermissionMissing):
        members["permission"] = refusal.permission
    if isinstance(refusal, RoleAboveCeiling | policy.RoleNotCarried | WidensOwnRole):
        members["role"] = refusal.role
    if isinstance(refusal, in_use.InUse):
        members["usage"] = refusal.usage
    if isinstance(refusal, rotation.StillUsed):
        members |= {"last_used_at": refusal.last_used_at, "last_used_ip": refusal.last_used_ip}
    if isinstance(refusal, rotation.RotationUnderWay):
        members["deadline"] = refusal.deadline
    if isinstance(refusal, services.AlreadyIssued) and refusal.token is not None:
        members["token"] = refusal.token.token_id
    response = _problem(status_of(refusal), refusal.code, str(refusal), **members)
    if isinstance(refusal, PermissionMissing):
        # RFC 6750 section 3.1.
        response["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{refusal.permission}"'
    return response


def _of_framework(error: exceptions.APIException) -> Response:
    if isinstance(error, exceptions.ValidationError):
        errors = _flat(error.detail)
        detail = "; ".join(f"{field}: {' '.join(messages)}" for field, messages in errors.items())
        return _problem(400, "invalid", detail, errors=errors)
    response = _problem(error.status_code, error.default_code, str(error.detail))
    if isinstance(error, BadCredential):
        # RFC 6750 section 3.1 for Bearer, RFC 7617 section 2 for Basic.
        bearer = f'Bearer realm="api", error="invalid_token", error_description="{error.detail}"'
        response["WWW-Authenticate"] = bearer if error.scheme == "Bearer" else 'Basic realm="api", charset="UTF-8"'
        response.data["code"] = "invalid_token"
        response.data["type"] = "urn:tallystick:problem:invalid_token"
    elif isinstance(error, TooManyRefusals):
        response["Retry-After"] = str(error.seconds)
    elif header := getattr(error, "auth_header", None):
        response["WWW-Authenticate"] = header
    return response


def _flat(detail: object, prefix: str = "") -> dict[str, list[str]]:
    """The framework's nested errors as {field: [messages]}; an element of a list is named `roles.2`."""
    if isinstance(detail, dict):
        flat: dict[str, list[str]] = {}
        for name, inner in detail.items():
            flat.update(_flat(inner, f"{prefix}.{name}" if prefix else str(name)))
        return flat
    if isinstance(detail, list):
        return {prefix or "non_field_errors": [str(item) for item in detail]}
    return {prefix: [str(detail)]}


def _link_token(response: Response, context: dict[str, object]) -> None:
    """Where a person can look at, and mend, the token that was refused."""
    caller = getattr(context.get("request"), "_user", None)
    if isinstance(caller, Caller) and caller.live and (tenant := caller.live.token.tenant):
        token = caller.live.token
        path = reverse("portal:token", args=[tenant.slug, token.token_id])
        response.data["token_page"] = token.environment.issuer.split("/e/")[0] + path
