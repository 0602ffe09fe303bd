"""`/api/v1/environments/<slug>/brand`: what the pages of the environment's tenants show in place of ours."""

import base64
import binascii

from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.response import Response

from apitokens import access
from apitokens.api.acting import IF_MATCH, ApiRequest, expected_version, with_version
from apitokens.api.environments import EnvironmentDoor
from apitokens.api.serializers import StrictSerializer
from apitokens.ceiling import check_environment_wide
from apitokens.changing import version_of
from apitokens.governance import branding
from apitokens.governance.branding import LOGO_MAX, NAME_MAX
from tenants.models import Brand

# Of base64, which writes three bytes as four characters.
ENCODED_MAX = -(-LOGO_MAX // 3) * 4


@extend_schema_field({"type": "string", "format": "byte", "maxLength": ENCODED_MAX})
class BytesField(serializers.Field):
    """Base64 (RFC 4648 section 4)."""

    default_error_messages = {
        "invalid": "Give the picture as base64.",
        "max_length": f"A logo has at most {LOGO_MAX // 1024} KiB.",
    }

    def to_internal_value(self, data: object) -> bytes:
        if not isinstance(data, str) or not data.isascii():
            self.fail("invalid")
        if len(data) > ENCODED_MAX:
            self.fail("max_length")
        try:
            return base64.b64decode(data, validate=True)
        except binascii.Error:
            self.fail("invalid")


class BrandChange(StrictSerializer):
    """What is given changes; the rest stays. What is given empty, or a logo of null, is taken away."""

    name = serializers.CharField(max_length=NAME_MAX, allow_blank=True, required=False)
    accent = serializers.CharField(
        max_length=7,
        allow_blank=True,
        required=False,
        help_text="`#rrggbb`, with a contrast of 3 to 1 to the pages in light and in dark.",
    )
    logo = BytesField(
        allow_null=True, required=False, help_text="PNG or WebP, 16 to 1,024 pixels wide and high. Null for none."
    )


class LogoOutput(serializers.Serializer):
    type = serializers.CharField(source="logo_type")
    digest = serializers.CharField(source="logo_digest")
    url = serializers.SerializerMethodField()

    def get_url(self, brand: Brand) -> str:
        return f"{brand.environment.issuer}/logo/{brand.logo_digest}"


class BrandOutput(serializers.Serializer):
    """What is empty is ours."""

    name = serializers.CharField()
    accent = serializers.CharField()
    logo = serializers.SerializerMethodField()

    @extend_schema_field(LogoOutput(allow_null=True))
    def get_logo(self, brand: Brand) -> dict[str, str] | None:
        return LogoOutput(brand).data if brand.logo_digest else None


class EnvironmentBrand(EnvironmentDoor):
    @extend_schema(responses=BrandOutput, operation_id="environments_brand_read")
    def get(self, request: ApiRequest, slug: str) -> Response:
        """What its tenants' pages show: a name, a colour, a logo."""
        principal = self.open(request, slug)
        access.require(principal, "environments:read")
        check_environment_wide(principal, principal.environment)
        return _answer(branding.brand_of(principal.environment))

    @extend_schema(
        request=BrandChange, responses=BrandOutput, parameters=[IF_MATCH], operation_id="environments_brand_change"
    )
    def patch(self, request: ApiRequest, slug: str) -> Response:
        """Change what is given."""
        principal = self.open(request, slug)
        data = BrandChange(data=request.data)
        data.is_valid(raise_exception=True)
        asked = dict(data.validated_data)
        if "logo" in asked:
            asked["logo"] = asked["logo"] or b""
        brand = branding.change(
            by=principal,
            environment=principal.environment,
            at=timezone.now(),
            expected=expected_version(request),
            **asked,
        )
        return _answer(brand)


def _answer(brand: Brand) -> Response:
    return with_version(BrandOutput(brand).data, version_of(branding.snapshot(brand)))
