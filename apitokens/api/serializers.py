"""The shapes of bodies. Whether what is asked may be had is for the services."""

from rest_framework import serializers

from apitokens import access, flags, policy
from apitokens.models import ApiToken, Kind, Owner
from apitokens.orders import CENTURY, DESCRIPTION_MAX, NAME_MAX, NETWORKS_MAX, Expiry, Grant


class StrictSerializer(serializers.Serializer):
    """A field that we don't know is a mistake of the sender that would otherwise pass unseen."""

    def to_internal_value(self, data):
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            raise serializers.ValidationError({str(name)[:64]: ["Unknown field."] for name in sorted(unknown)})
        return super().to_internal_value(data)


def keys(**options):
    return serializers.ListField(child=serializers.CharField(max_length=128), max_length=200, **options)


class GrantFields(StrictSerializer):
    """What a token is granted and until when; the same fields when it is made and when it is changed."""

    description = serializers.CharField(
        max_length=DESCRIPTION_MAX, allow_blank=True, required=False, trim_whitespace=False
    )
    roles = keys(required=False, help_text="Keys or ids of roles.")
    permissions = keys(required=False, help_text="Permissions picked directly, instead of roles.")
    without = keys(required=False, help_text="Permissions of the roles that the token shall not have.")
    expires_in = serializers.IntegerField(
        min_value=1, max_value=CENTURY, allow_null=True, required=False, help_text="Seconds; null for never."
    )
    expires_at = serializers.DateTimeField(allow_null=True, required=False, help_text="Null for never.")

    def grant(self) -> Grant | None:
        given = {
            name: tuple(self.validated_data[name])
            for name in ("roles", "permissions", "without")
            if name in self.validated_data
        }
        return Grant(**given) if given else None

    def expiry(self) -> Expiry | None:
        data = self.validated_data
        if "expires_in" not in data and "expires_at" not in data:
            return None
        at, seconds = data.get("expires_at"), data.get("expires_in")
        return Expiry(at=at, seconds=seconds, never=at is None and seconds is None)


class TokenInput(GrantFields):
    """A token to be made."""

    name = serializers.CharField(max_length=NAME_MAX)
    owner = serializers.ChoiceField(choices=Owner.choices, default=Owner.TENANT)
    kind = serializers.ChoiceField(choices=Kind.choices)
    tenant = serializers.CharField(max_length=255, required=False, help_text="Id or external id, where not implied.")
    user = serializers.UUIDField(
        required=False, help_text="Whose personal token, when an environment's token makes it."
    )
    ip_allowlist = serializers.ListField(
        child=serializers.CharField(max_length=64), max_length=NETWORKS_MAX, required=False
    )


class TokenChange(GrantFields):
    """What is given changes; the rest stays."""

    name = serializers.CharField(max_length=NAME_MAX, required=False)


class TokenOutput(serializers.Serializer):
    """A token as it is now. `permissions` and `state` are computed at this moment; no secret is ever here."""

    id = serializers.CharField(source="token_id")
    client_id = serializers.SerializerMethodField()
    name = serializers.CharField()
    description = serializers.CharField()
    owner = serializers.ChoiceField(choices=Owner.choices)
    kind = serializers.ChoiceField(choices=Kind.choices)
    environment = serializers.CharField(source="environment.slug")
    tenant = serializers.UUIDField(source="tenant_id", allow_null=True)
    user = serializers.SerializerMethodField()
    roles = serializers.SerializerMethodField()
    granted = serializers.ListField(child=serializers.CharField())
    permissions = serializers.SerializerMethodField()
    state = serializers.SerializerMethodField()
    last_four = serializers.CharField(allow_null=True, help_text="Null while it has no secret.")
    ip_allowlist = serializers.ListField(child=serializers.CharField())
    expires_at = serializers.DateTimeField(allow_null=True)
    disabled_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    flags = serializers.ListField(
        child=serializers.ChoiceField(choices=[flag.value for flag in flags.Flag]),
        required=False,
        help_text="What an administrator should look at; for callers who hold members:read, and the vendor's.",
    )

    def to_representation(self, token: ApiToken) -> dict[str, object]:
        """`flags_for` in the context is who asks, where the token was read `with_suspicions`."""
        body: dict[str, object] = super().to_representation(token)
        if (principal := self.context.get("flags_for")) and access.sees_flags(principal):
            body["flags"] = list(flags.of(token, at=self.context["at"]))
        return body

    def get_client_id(self, token: ApiToken) -> str | None:
        return token.client_id if token.kind == Kind.CLIENT_CREDENTIALS else None

    def get_user(self, token: ApiToken) -> str | None:
        member = token.membership or token.vendor_membership
        return str(member.user_id) if member else None

    def get_roles(self, token: ApiToken) -> list[str]:
        return sorted({row[0] for row in token.role_rows})

    def get_permissions(self, token: ApiToken) -> list[str]:
        return sorted(policy.effective_permissions(policy.Standing.of(token)).permissions)

    def get_state(self, token: ApiToken) -> str:
        return policy.state(token, policy.effective_permissions(policy.Standing.of(token)), at=self.context["at"])


class TokenReference(serializers.Serializer):
    """A token by name, in lists of what a change would do."""

    id = serializers.CharField(source="token_id")
    name = serializers.CharField()
    owner = serializers.ChoiceField(choices=Owner.choices)
    kind = serializers.ChoiceField(choices=Kind.choices)
    tenant = serializers.UUIDField(source="tenant_id", allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class ListedOutput(serializers.Serializer):
    """How many there are, and the newest fifty."""

    count = serializers.IntegerField()
    tokens = TokenReference(many=True, source="first")


class IssuedOutput(TokenOutput):
    """The only answer that ever holds the secret."""

    access_token = serializers.CharField(required=False)
    client_secret = serializers.CharField(required=False)


class SelfOutput(serializers.Serializer):
    """What the credential of this very request is and may do."""

    id = serializers.CharField()
    client_id = serializers.CharField(allow_null=True)
    name = serializers.CharField()
    owner = serializers.ChoiceField(choices=Owner.choices)
    kind = serializers.ChoiceField(choices=Kind.choices)
    environment = serializers.CharField()
    tenant = serializers.UUIDField(allow_null=True)
    tenant_external_id = serializers.CharField(allow_null=True)
    user = serializers.UUIDField(allow_null=True)
    roles = serializers.ListField(child=serializers.CharField())
    scope = serializers.CharField()
    expires_at = serializers.DateTimeField(allow_null=True)
