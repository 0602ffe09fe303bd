"""`/api/v1/`: open a door, read a shape, call one service, answer."""

from uuid import UUID

from django.http import Http404
from django.urls import reverse
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access, services
from apitokens.api.acting import (
    ALL_TENANTS,
    CHOSEN,
    COMPROMISED,
    IF_MATCH,
    NONCE,
    OWNER,
    SORT,
    TENANT,
    USABLE,
    ApiRequest,
    NeedsToken,
    TenantMissing,
    chosen_in,
    expected_version,
    or_404,
    principal_of,
    with_version,
)
from apitokens.api.serializers import IssuedOutput, SelfOutput, TokenChange, TokenInput, TokenOutput
from apitokens.credentials import TOKEN_ID
from apitokens.finding import among, sort_in
from apitokens.models import ApiToken, Kind, Owner
from apitokens.orders import UNSET, Expiry, Grant, InvalidField, Order
from apitokens.paging import TokenPages
from apitokens.principals import Principal
from apitokens.querysets import TOLD
from tenants.models import Membership

SECRET_FIELD = {Kind.ACCESS_TOKEN: "access_token", Kind.CLIENT_CREDENTIALS: "client_secret"}


def _order(data: TokenInput, principal: Principal) -> Order:
    asked = data.validated_data
    membership = None
    if asked["owner"] == Owner.USER:
        membership = principal.membership
        if membership is None:
            membership = _named_member(principal, asked.get("user"))
    return Order(
        owner=asked["owner"],
        kind=asked["kind"],
        name=asked["name"],
        description=asked.get("description", ""),
        grant=data.grant() or Grant(),
        expiry=data.expiry() or Expiry(),
        not_before=asked.get("not_before"),
        ip_allowlist=data.listed("ip_allowlist") or (),
        audiences=data.listed("audiences") or (),
        membership=membership,
        public_key=asked.get("public_key"),
    )


def _named_member(principal: Principal, user_id: UUID | None) -> Membership:
    """The person a personal token is made for by a token; the service decides whether it may."""
    access.require(principal, "personal-apitokens:create")
    found = Membership.objects.active().select_related("tenant", "environment", "user")
    membership = found.filter(tenant=principal.tenant, user=user_id).first() if user_id else None
    if membership is None:
        raise InvalidField("user", "Name the user, by id, whose personal token it is to be: a member of the tenant.")
    return membership


def issued_answer(issued: services.Issued, principal: Principal) -> Response:
    """201 with the secret, if there is one: the one answer that holds it (R1)."""
    token = access.with_everything(issued.token)
    body = TokenOutput(token, context={"at": timezone.now(), "flags_for": principal}).data
    if issued.plaintext is not None:
        body[SECRET_FIELD[Kind(token.kind)]] = issued.plaintext
    location = reverse("api:token", args=[token.token_id])
    return Response(body, status=201, headers={"Location": location, "Cache-Control": "no-store"})


class TokenSelf(APIView):
    @extend_schema(responses=SelfOutput, operation_id="token_self")
    def get(self, request: ApiRequest) -> Response:
        """What the credential of this request is and may do now."""
        live = request.user.live
        if live is None:
            raise NeedsToken
        token, tenant = live.token, live.tenant
        member = token.membership or token.vendor_membership
        body = {
            "id": token.token_id,
            "client_id": token.client_id if token.kind == Kind.CLIENT_CREDENTIALS else None,
            "name": token.name,
            "owner": token.owner,
            "kind": token.kind,
            "environment": token.environment.slug,
            "tenant": tenant.id if tenant else None,
            "tenant_external_id": tenant.external_id if tenant else None,
            "user": member.user_id if member else None,
            "roles": list(live.now.roles),
            "scope": " ".join(sorted(live.now.permissions)),
            "expires_at": token.expires_at,
        }
        return Response(SelfOutput(body).data, headers={"Cache-Control": "no-store"})


class Tokens(APIView):
    @extend_schema(
        responses=TokenOutput(many=True),
        parameters=[TENANT, ALL_TENANTS, OWNER, USABLE, *CHOSEN, SORT],
        operation_id="tokens_list",
    )
    def get(self, request: ApiRequest) -> Response:
        """The tokens you may see, newest first unless you say otherwise, a page at a time."""
        chosen, at = chosen_in(request.GET), timezone.now()
        chosen.check()
        principal = principal_of(request, request.GET.get("tenant"))
        is_everywhere = request.GET.get("all_tenants") == "true"
        sort = sort_in(request.GET.get("sort", ""), is_everywhere=is_everywhere and principal.tenant is None)
        if principal.tenant is None and chosen.owner != Owner.ENVIRONMENT and not is_everywhere:
            raise TenantMissing
        access.require(principal, f"{services.PERMISSION_FAMILY[Owner(chosen.owner or Owner.TENANT)]}:read")
        tokens = among(access.visible_tokens(principal), chosen, environment=principal.environment, at=at)
        if request.GET.get("usable") == "true":
            tokens = tokens.usable(at=at)
        pages = TokenPages(sort, read=TOLD[access.sees_flags(principal)])
        page = pages.paginate_queryset(tokens, request)
        context = {"at": at, "flags_for": principal}
        return pages.get_paginated_response(TokenOutput(page, many=True, context=context).data)

    @extend_schema(
        request=TokenInput, responses={201: IssuedOutput}, parameters=[TENANT, NONCE], operation_id="tokens_create"
    )
    def post(self, request: ApiRequest) -> Response:
        """Make a token. Its secret is in this answer and in no other, ever."""
        data = TokenInput(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        # A person acts in a tenant, unless they are of the vendor and name the environment.
        acts_in_environment = request.user.user is None or bool(request.GET.get("environment"))
        for_environment = asked["owner"] == Owner.ENVIRONMENT and acts_in_environment
        reference = None if for_environment else asked.get("tenant") or request.GET.get("tenant")
        principal = principal_of(request, reference)
        if principal.tenant is None and not for_environment:
            raise TenantMissing
        issued = services.issue(
            by=principal,
            tenant=None if asked["owner"] == Owner.ENVIRONMENT else principal.tenant,
            order=_order(data, principal),
            at=timezone.now(),
            nonce=request.headers.get("Idempotency-Key"),
        )
        return issued_answer(issued, principal)


class TokenDoor(APIView):
    """Opens one token; everything below it is called with the principal and the token."""

    def open(self, request: ApiRequest, token_id: str) -> tuple[Principal, ApiToken]:
        if not TOKEN_ID.fullmatch(token_id):
            raise Http404
        reference = request.GET.get("tenant")
        user = request.user.user
        if user is None or reference or request.GET.get("environment"):
            principal = principal_of(request, reference)
        else:
            # The token's own tenant is implied, if it is one of the person's.
            own = access.memberships_of(user).filter(tenant__api_tokens__token_id=token_id)
            principal = access.of_membership(or_404(own.first()), request._request)
        return principal, access.open_token(principal, token_id)

    def answer(self, token: ApiToken, principal: Principal) -> Response:
        context = {"at": timezone.now(), "flags_for": principal}
        now = access.with_everything(token)
        return with_version(TokenOutput(now, context=context).data, services.version(now))


class Token(TokenDoor):
    @extend_schema(responses=TokenOutput, operation_id="tokens_read")
    def get(self, request: ApiRequest, token_id: str) -> Response:
        """One token as it is now."""
        principal, token = self.open(request, token_id)
        return self.answer(token, principal)

    @extend_schema(request=TokenChange, responses=TokenOutput, parameters=[IF_MATCH], operation_id="tokens_change")
    def patch(self, request: ApiRequest, token_id: str) -> Response:
        """Change what is given. Widening or extending passes the same ceiling as making."""
        principal, token = self.open(request, token_id)
        data = TokenChange(data=request.data)
        data.is_valid(raise_exception=True)
        changed = services.edit(
            by=principal,
            token=token,
            at=timezone.now(),
            name=data.validated_data.get("name"),
            description=data.validated_data.get("description"),
            grant=data.grant(),
            expiry=data.expiry(),
            ip_allowlist=data.listed("ip_allowlist"),
            audiences=data.listed("audiences"),
            not_before=data.validated_data.get("not_before", UNSET),
            expected=expected_version(request),
        )
        return self.answer(changed, principal)

    @extend_schema(responses={204: None}, parameters=[COMPROMISED], operation_id="tokens_delete")
    def delete(self, request: ApiRequest, token_id: str) -> Response:
        """End it for good. There is no undo."""
        principal, token = self.open(request, token_id)
        is_compromised = request.GET.get("compromised") == "true"
        services.delete(by=principal, token=token, at=timezone.now(), as_compromised=is_compromised)
        return Response(status=204)


class TokenDisable(TokenDoor):
    @extend_schema(request=None, responses=TokenOutput, operation_id="tokens_disable")
    def post(self, request: ApiRequest, token_id: str) -> Response:
        """Stop it at once; reversible."""
        principal, token = self.open(request, token_id)
        return self.answer(services.disable(by=principal, token=token, at=timezone.now()), principal)


class TokenEnable(TokenDoor):
    @extend_schema(request=None, responses=TokenOutput, operation_id="tokens_enable")
    def post(self, request: ApiRequest, token_id: str) -> Response:
        """Let it work again. JWTs issued before stay dead."""
        principal, token = self.open(request, token_id)
        return self.answer(services.enable(by=principal, token=token, at=timezone.now()), principal)


class TokenEndJwts(TokenDoor):
    @extend_schema(request=None, responses=TokenOutput, operation_id="tokens_end_jwts")
    def post(self, request: ApiRequest, token_id: str) -> Response:
        """Every JWT it got until now is dead; the token itself goes on."""
        principal, token = self.open(request, token_id)
        return self.answer(services.end_jwts(by=principal, token=token, at=timezone.now()), principal)
