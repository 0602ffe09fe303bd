"""`/api/v1/members` and `/api/v1/invitations`: who is in a tenant, and who is asked to join it."""

from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.access import members_of, open_member, visible_tokens
from apitokens.api.acting import (
    IF_MATCH,
    TENANT,
    ApiRequest,
    TenantMissing,
    expected_version,
    principal_named,
    with_version,
)
from apitokens.api.serializers import StrictSerializer, TokenOutput, keys
from apitokens.changing import version_of
from apitokens.credentials import TOKEN_ID
from apitokens.governance import invitations, members
from apitokens.governance.offers import Invited
from apitokens.paging import MemberPages
from apitokens.principals import Principal
from tenants.models import Membership, Tenant

SEARCH = OpenApiParameter("q", description="Only those whose name or e-mail has this in it.")
DELETE_TOKENS = OpenApiParameter(
    "delete_tokens", many=True, description="Ids of the tenant's tokens they made or were shown, to be deleted too."
)
TOKENS_AT_MOST = 200


class MemberOutput(serializers.Serializer):
    """A member as they are now. `level` is the highest of their roles, null without one."""

    id = serializers.UUIDField()
    user = serializers.UUIDField(source="user_id")
    name = serializers.CharField(source="user.name")
    email = serializers.EmailField(source="user.email", allow_null=True)
    tenant = serializers.UUIDField(source="tenant_id")
    roles = serializers.SerializerMethodField()
    level = serializers.SerializerMethodField()
    suspended_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    def get_roles(self, member: Membership) -> list[str]:
        return sorted(role.key for role in member.roles.all())

    def get_level(self, member: Membership) -> int | None:
        return max((role.level for role in member.roles.all()), default=None)


class MemberChange(StrictSerializer):
    """The member's roles from now on, all of them."""

    roles = keys(help_text="Keys or ids of roles.")


class MemberEnd(StrictSerializer):
    delete_tokens = serializers.ListField(
        child=serializers.RegexField(TOKEN_ID), max_length=TOKENS_AT_MOST, required=False
    )


class InventoryOutput(serializers.Serializer):
    """What the member would leave behind, as far as you may see it. Lists are cut at 200; the counts are not."""

    personal = TokenOutput(many=True)
    made = TokenOutput(many=True)
    shown = TokenOutput(many=True)
    personal_count = serializers.IntegerField()
    made_count = serializers.IntegerField()
    shown_count = serializers.IntegerField()


class InvitationInput(StrictSerializer):
    email = serializers.CharField(max_length=254)
    roles = keys(help_text="Keys or ids of roles.")


class InvitationOutput(serializers.Serializer):
    """An invitation that nobody has accepted yet."""

    id = serializers.UUIDField()
    email = serializers.EmailField()
    roles = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()

    def get_roles(self, invitation) -> list[str]:
        return sorted(role.key for role in invitation.roles.all())


class InvitedOutput(InvitationOutput):
    link = serializers.CharField(
        allow_null=True, help_text="In this answer only; null where the invitation went out by mail."
    )


def in_tenant(request: ApiRequest) -> tuple[Principal, Tenant]:
    """The caller in one tenant; raises TenantMissing when none is named nor implied."""
    principal = principal_named(request)
    if principal.tenant is None:
        raise TenantMissing
    return principal, principal.tenant


def invited_answer(invited: Invited, output: type[serializers.Serializer]) -> Response:
    """201 with the link, in the one answer that has it (R1)."""
    body = {**output(invited.invitation).data, "link": invited.link}
    return Response(body, status=201, headers={"Cache-Control": "no-store"})


class Members(APIView):
    @extend_schema(responses=MemberOutput(many=True), parameters=[TENANT, SEARCH], operation_id="members_list")
    def get(self, request: ApiRequest) -> Response:
        """The tenant's members, newest first, a page at a time."""
        principal, _ = in_tenant(request)
        access.require(principal, "members:read")
        found = members_of(principal).filter(access.named_like(request.GET.get("q", "")[:100]))
        pages = MemberPages()
        page = pages.paginate_queryset(found, request)
        return pages.get_paginated_response(MemberOutput(page, many=True).data)


class MemberDoor(APIView):
    """Opens one member: one's own membership, or with `members:read` anybody's of the tenant."""

    def open(self, request: ApiRequest, member_id: UUID) -> tuple[Principal, Membership]:
        principal, _ = in_tenant(request)
        if principal.membership is None or principal.membership.pk != member_id:
            access.require(principal, "members:read")
        return principal, open_member(principal, member_id)

    def answer(self, principal: Principal, member: Membership) -> Response:
        now = open_member(principal, member.pk)
        return with_version(MemberOutput(now).data, version_of(members.snapshot(now)))


class Member(MemberDoor):
    @extend_schema(responses=MemberOutput, parameters=[TENANT], operation_id="members_read")
    def get(self, request: ApiRequest, member_id: UUID) -> Response:
        """One member as they are now."""
        return self.answer(*self.open(request, member_id))

    @extend_schema(
        request=MemberChange, responses=MemberOutput, parameters=[TENANT, IF_MATCH], operation_id="members_change"
    )
    def patch(self, request: ApiRequest, member_id: UUID) -> Response:
        """Give them these roles. You must be able to hand out those they have as well as those they get."""
        principal, member = self.open(request, member_id)
        data = MemberChange(data=request.data)
        data.is_valid(raise_exception=True)
        changed = members.change_roles(
            by=principal,
            membership=member,
            roles=data.validated_data["roles"],
            at=timezone.now(),
            expected=expected_version(request),
        )
        return self.answer(principal, changed)

    @extend_schema(
        request=None, responses={204: None}, parameters=[TENANT, DELETE_TOKENS], operation_id="members_remove"
    )
    def delete(self, request: ApiRequest, member_id: UUID) -> Response:
        """End the membership. A person's own takes no permission: they leave, and take no token along."""
        principal, member = self.open(request, member_id)
        chosen = request.GET.getlist("delete_tokens")
        data = MemberEnd(data=request.data or ({"delete_tokens": chosen} if chosen else {}))
        data.is_valid(raise_exception=True)
        chosen = data.validated_data.get("delete_tokens", [])
        if principal.membership == member and not chosen:
            members.leave(by=principal, at=timezone.now())
        else:
            members.remove(by=principal, membership=member, at=timezone.now(), delete_tokens=chosen)
        return Response(status=204)


class MemberSuspend(MemberDoor):
    @extend_schema(request=None, responses=MemberOutput, parameters=[TENANT], operation_id="members_suspend")
    def post(self, request: ApiRequest, member_id: UUID) -> Response:
        """They can't sign in here and their personal tokens stop, until they are reinstated."""
        principal, member = self.open(request, member_id)
        return self.answer(principal, members.suspend(by=principal, membership=member, at=timezone.now()))


class MemberReinstate(MemberDoor):
    @extend_schema(request=None, responses=MemberOutput, parameters=[TENANT], operation_id="members_reinstate")
    def post(self, request: ApiRequest, member_id: UUID) -> Response:
        """Let them in again. JWTs of their tokens from before stay dead."""
        principal, member = self.open(request, member_id)
        return self.answer(principal, members.reinstate(by=principal, membership=member, at=timezone.now()))


class MemberInventory(MemberDoor):
    @extend_schema(responses=InventoryOutput, parameters=[TENANT], operation_id="members_inventory")
    def get(self, request: ApiRequest, member_id: UUID) -> Response:
        """Their personal tokens, and the tenant's that they made or whose secret they have seen."""
        principal, member = self.open(request, member_id)
        found = members.inventory(member, among=visible_tokens(principal))
        return Response(InventoryOutput(found, context={"at": timezone.now()}).data)


class Invitations(APIView):
    @extend_schema(responses=InvitationOutput(many=True), parameters=[TENANT], operation_id="invitations_list")
    def get(self, request: ApiRequest) -> Response:
        """What nobody has accepted yet, newest first, expired ones too."""
        principal, _ = in_tenant(request)
        access.require(principal, "members:read")
        pages = MemberPages()
        page = pages.paginate_queryset(access.open_invitations(principal), request)
        return pages.get_paginated_response(InvitationOutput(page, many=True).data)

    @extend_schema(
        request=InvitationInput, responses={201: InvitedOutput}, parameters=[TENANT], operation_id="invitations_create"
    )
    def post(self, request: ApiRequest) -> Response:
        """Invite somebody. A new invitation to the same e-mail takes the place of the open one."""
        principal, tenant = in_tenant(request)
        data = InvitationInput(data=request.data)
        data.is_valid(raise_exception=True)
        invited = invitations.invite(by=principal, tenant=tenant, at=timezone.now(), **data.validated_data)
        return invited_answer(invited, InvitationOutput)


class InvitationItem(APIView):
    @extend_schema(responses={204: None}, parameters=[TENANT], operation_id="invitations_revoke")
    def delete(self, request: ApiRequest, invitation_id: UUID) -> Response:
        """Its link opens nothing any more."""
        principal, _ = in_tenant(request)
        found = access.open_invitation(principal, invitation_id)
        invitations.revoke(by=principal, invitation=found, at=timezone.now())
        return Response(status=204)
