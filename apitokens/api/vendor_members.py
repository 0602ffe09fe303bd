"""`/api/v1/vendor-members` and `/api/v1/vendor-invitations`: the vendor's own people.

For people alone: a token acts inside one environment, and who works for the vendor is about all of them. The session
names the environment from which it acts, and in whose record it stands first.
"""

from uuid import UUID

from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.response import Response
from rest_framework.views import APIView

from apitokens import access
from apitokens.api.acting import (
    ENVIRONMENT,
    IF_MATCH,
    ApiRequest,
    expected_version,
    principal_of_environment,
    with_version,
)
from apitokens.api.members import SEARCH, invited_answer
from apitokens.api.serializers import StrictSerializer
from apitokens.changing import version_of
from apitokens.governance import vendor_members
from apitokens.orders import InvalidField
from apitokens.paging import MemberPages
from apitokens.principals import Principal
from tenants.models import Environment, VendorMembership


class VendorMemberOutput(serializers.Serializer):
    """`environments` are slugs; null stands for all of them, those to come included."""

    id = serializers.UUIDField()
    user = serializers.UUIDField(source="user_id")
    name = serializers.CharField(source="user.name")
    email = serializers.EmailField(source="user.email", allow_null=True)
    role = serializers.ChoiceField(choices=VendorMembership.Role.choices)
    environments = serializers.SerializerMethodField()
    suspended_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()

    def get_environments(self, member: VendorMembership) -> list[str] | None:
        return slugs_of(member)


class VendorPlace(StrictSerializer):
    """What somebody of the vendor is, and where."""

    role = serializers.ChoiceField(choices=VendorMembership.Role.choices)
    environments = serializers.ListField(
        child=serializers.SlugField(max_length=63), max_length=200, allow_null=True, help_text="Slugs; null for all."
    )


class VendorInvitationInput(VendorPlace):
    email = serializers.CharField(max_length=254)


class VendorInvitationOutput(serializers.Serializer):
    """An invitation that nobody has accepted yet."""

    id = serializers.UUIDField()
    email = serializers.EmailField()
    role = serializers.ChoiceField(choices=VendorMembership.Role.choices, source="vendor_role")
    environments = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField()

    def get_environments(self, invitation) -> list[str] | None:
        return slugs_of(invitation)


class VendorInvitedOutput(VendorInvitationOutput):
    link = serializers.CharField(
        allow_null=True, help_text="In this answer only; null where the invitation went out by mail."
    )


def slugs_of(row) -> list[str] | None:
    return None if row.in_all_environments else sorted(environment.slug for environment in row.environments.all())


def of_the_vendor(request: ApiRequest) -> Principal:
    """The person of the vendor who calls; raises PeopleOnly for a token."""
    principal = principal_of_environment(request)
    if principal.vendor_membership is None:
        raise vendor_members.PeopleOnly
    access.require(principal, "environments:read")
    return principal


def environments_named(principal: Principal, slugs: list[str] | None) -> list[Environment] | None:
    """Of the caller's own vendor; raises InvalidField for one that is not."""
    if slugs is None:
        return None
    found = list(Environment.objects.filter(vendor=principal.environment.vendor_id, slug__in=slugs))
    if unknown := set(slugs) - {environment.slug for environment in found}:
        raise InvalidField("environments", f"Unknown environment: {', '.join(sorted(unknown))[:200]}.")
    return found


class VendorMembers(APIView):
    @extend_schema(
        responses=VendorMemberOutput(many=True), parameters=[ENVIRONMENT, SEARCH], operation_id="vendor_members_list"
    )
    def get(self, request: ApiRequest) -> Response:
        """Everybody who works for the vendor, newest first. For people only: tokens are refused."""
        found = access.vendors_people(of_the_vendor(request))
        pages = MemberPages()
        page = pages.paginate_queryset(found.filter(access.named_like(request.GET.get("q", "")[:100])), request)
        return pages.get_paginated_response(VendorMemberOutput(page, many=True).data)


class VendorMemberDoor(APIView):
    def open(self, request: ApiRequest, member_id: UUID) -> tuple[Principal, VendorMembership]:
        principal = of_the_vendor(request)
        return principal, access.open_person(principal, member_id)

    def answer(self, principal: Principal, member: VendorMembership) -> Response:
        now = access.open_person(principal, member.pk)
        return with_version(VendorMemberOutput(now).data, version_of(vendor_members.snapshot(now)))


class VendorMember(VendorMemberDoor):
    @extend_schema(responses=VendorMemberOutput, parameters=[ENVIRONMENT], operation_id="vendor_members_read")
    def get(self, request: ApiRequest, member_id: UUID) -> Response:
        """One of the vendor's people as they are now."""
        return self.answer(*self.open(request, member_id))

    @extend_schema(
        request=VendorPlace,
        responses=VendorMemberOutput,
        parameters=[ENVIRONMENT, IF_MATCH],
        operation_id="vendor_members_change",
    )
    def patch(self, request: ApiRequest, member_id: UUID) -> Response:
        """Another role or other environments; what is not given stays. Owners only."""
        principal, member = self.open(request, member_id)
        data = VendorPlace(data=request.data, partial=True)
        data.is_valid(raise_exception=True)
        asked = {"role": member.role, "environments": slugs_of(member), **data.validated_data}
        changed = vendor_members.change(
            by=principal,
            member=member,
            role=asked["role"],
            environments=environments_named(principal, asked["environments"]),
            at=timezone.now(),
            expected=expected_version(request),
        )
        return self.answer(principal, changed)

    @extend_schema(responses={204: None}, parameters=[ENVIRONMENT], operation_id="vendor_members_remove")
    def delete(self, request: ApiRequest, member_id: UUID) -> Response:
        """End it. Owners end anybody's; everybody their own, except the last owner."""
        principal, member = self.open(request, member_id)
        if principal.vendor_membership == member:
            vendor_members.leave(by=principal, at=timezone.now())
        else:
            vendor_members.remove(by=principal, member=member, at=timezone.now())
        return Response(status=204)


class VendorMemberSuspend(VendorMemberDoor):
    @extend_schema(
        request=None, responses=VendorMemberOutput, parameters=[ENVIRONMENT], operation_id="vendor_members_suspend"
    )
    def post(self, request: ApiRequest, member_id: UUID) -> Response:
        """They open no console and their own tokens stop, until they are reinstated. Owners only."""
        principal, member = self.open(request, member_id)
        return self.answer(principal, vendor_members.suspend(by=principal, member=member, at=timezone.now()))


class VendorMemberReinstate(VendorMemberDoor):
    @extend_schema(
        request=None, responses=VendorMemberOutput, parameters=[ENVIRONMENT], operation_id="vendor_members_reinstate"
    )
    def post(self, request: ApiRequest, member_id: UUID) -> Response:
        """Let them in again. JWTs of their tokens from before stay dead. Owners only."""
        principal, member = self.open(request, member_id)
        return self.answer(principal, vendor_members.reinstate(by=principal, member=member, at=timezone.now()))


class VendorInvitations(APIView):
    @extend_schema(
        responses=VendorInvitationOutput(many=True), parameters=[ENVIRONMENT], operation_id="vendor_invitations_list"
    )
    def get(self, request: ApiRequest) -> Response:
        """What nobody has accepted yet, newest first, expired ones too."""
        pages = MemberPages()
        page = pages.paginate_queryset(access.open_invitations(of_the_vendor(request)), request)
        return pages.get_paginated_response(VendorInvitationOutput(page, many=True).data)

    @extend_schema(
        request=VendorInvitationInput,
        responses={201: VendorInvitedOutput},
        parameters=[ENVIRONMENT],
        operation_id="vendor_invitations_create",
    )
    def post(self, request: ApiRequest) -> Response:
        """Invite somebody to work for the vendor. Owners only."""
        principal = of_the_vendor(request)
        data = VendorInvitationInput(data=request.data)
        data.is_valid(raise_exception=True)
        asked = data.validated_data
        invited = vendor_members.invite(
            by=principal,
            email=asked["email"],
            role=asked["role"],
            environments=environments_named(principal, asked["environments"]),
            at=timezone.now(),
        )
        return invited_answer(invited, VendorInvitationOutput)


class VendorInvitationItem(APIView):
    @extend_schema(responses={204: None}, parameters=[ENVIRONMENT], operation_id="vendor_invitations_revoke")
    def delete(self, request: ApiRequest, invitation_id: UUID) -> Response:
        """Its link opens nothing any more. Owners only."""
        principal = of_the_vendor(request)
        found = access.open_invitation(principal, invitation_id)
        vendor_members.revoke(by=principal, invitation=found, at=timezone.now())
        return Response(status=204)
