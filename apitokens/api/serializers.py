"""The shapes of bodies. Whether what is asked may be had is for the services."""

import json

from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from apitokens import access, flags, policy, versions
from apitokens.models import ApiToken, Kind, Owner, Secret
from apitokens.orders import AUDIENCES_MAX, CENTURY, DESCRIPTION_MAX, NAME_MAX, NETWORKS_MAX, Expiry, Grant


class StrictSerializer(serializers.Serializer):
    """A field that we don't know is a mistake of the sender that would otherwise pass unseen."""

    def to_internal_value(self, data):
        if isinstance(data, dict) and (unknown := set(data) - set(self.fields)):
            raise serializers.ValidationError({str(name)[:64]: ["Unknown field."] for name in sorted(unknown)})
        return super().to_internal_value(data)


def keys(**options):
    return serializers.ListField(child=serializers.CharField(max_length=128), max_length=200, **options)


class ExpiryFields(StrictSerializer):
    """Until when, in one of two ways."""

    expires_in = serializers.IntegerField(
        min_value=1, max_value=CENTURY, allow_null=True, required=False, help_text="Seconds; null for never."
    )
    expires_at = serializers.DateTimeField(allow_null=True, required=False, help_text="Null for never.")

    def expiry(self) -> Expiry | None:
        data = self.validated_data
        if "expires_in" not in data and "expires_at" not in data:
            return None
        at, seconds = data.get("expires_at"), data.get("expires_in")
        return Expiry(at=at, seconds=seconds, never=at is None and seconds is None)


@extend_schema_field({"oneOf": [{"type": "string"}, {"type": "object", "additionalProperties": {}}]})
class PublicKeyField(serializers.Field):
    """A JWK, as an object or as text, or a PEM. Whether it is one is not said here, and what it is never said back."""

    default_error_messages = {"invalid": "Give a JWK or a PEM."}

    def to_internal_value(self, data):
        if not isinstance(data, str | dict):
            self.fail("invalid")
        return data if isinstance(data, str) else json.dumps(data)


class GrantFields(ExpiryFields):
    """What a token is granted and until when; the same fields when it is made and when it is changed."""

    description = serializers.CharField(
        max_length=DESCRIPTION_MAX, allow_blank=True, required=False, trim_whitespace=False
    )
    roles = keys(required=False, help_text="Keys or ids of roles.")
    permissions = keys(required=False, help_text="Permissions picked directly, instead of roles.")
    without = keys(required=False, help_text="Permissions of the roles that the token shall not have.")
    not_before = serializers.DateTimeField(
        allow_null=True, required=False, help_text="It works from then on; null for at once."
    )
    ip_allowlist = serializers.ListField(
        child=serializers.CharField(max_length=64),
        max_length=NETWORKS_MAX,
        required=False,
        help_text="Addresses and networks, v4 and v6, that it may be used from; empty for everywhere.",
    )
    audiences = serializers.ListField(
        child=serializers.CharField(max_length=255),
        max_length=AUDIENCES_MAX,
        required=False,
        help_text="API identifiers of the environment, or its issuer, that it may be used for; empty for all.",
    )

    def grant(self) -> Grant | None:
        given = {
            name: tuple(self.validated_data[name])
            for name in ("roles", "permissions", "without")
            if name in self.validated_data
        }
        return Grant(**given) if given else None

    def listed(self, name: str) -> tuple[str, ...] | None:
        """A list that was given, else None."""
        return tuple(self.validated_data[name]) if name in self.validated_data else None


class TokenInput(GrantFields):
    """A token to be made."""

    name = serializers.CharField(max_length=NAME_MAX)
    owner = serializers.ChoiceField(choices=Owner.choices, default=Owner.TENANT)
    kind = serializers.ChoiceField(choices=Kind.choices)
    tenant = serializers.CharField(max_length=255, required=False, help_text="Id or external id, where not implied.")
    user = serializers.UUIDField(
        required=False, help_text="Whose personal token, when an environment's token makes it."
    )
    public_key = PublicKeyField(
        required=False, help_text="For client_credentials: instead of a secret. P-256, RSA of 2,048 bits, or Ed25519."
    )


class TokenChange(GrantFields):
    """What is given changes; the rest stays."""

    name = serializers.CharField(max_length=NAME_MAX, required=False)


class SelfRotationInput(StrictSerializer):
    """A new secret, or another public key, beside the old one."""

    overlap = serializers.IntegerField(
        min_value=0,
        max_value=CENTURY,
        required=False,
        help_text="Seconds for which the old one still works; a day, or the longest that the type allows, without it.",
    )
    compromised = serializers.BooleanField(
        default=False, help_text="Every other secret, and every JWT, is dead at once."
    )
    public_key = PublicKeyField(required=False, help_text="For client_credentials: instead of a secret.")


class RotationInput(SelfRotationInput, ExpiryFields):
    """The same by somebody else, who may give it a new expiry too."""


class CompletionInput(StrictSerializer):
    """Whether to end the old secret though it was used within the last hour."""

    even_if_used = serializers.BooleanField(default=False)


class SecretOutput(serializers.Serializer):
    """A live version of what proves the token: a secret by its last four characters, or a public key by its `kid`."""

    last_four = serializers.SerializerMethodField()
    kid = serializers.SerializerMethodField()
    algorithm = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()
    expires_at = serializers.DateTimeField(allow_null=True, help_text="The deadline of a rotation.")
    last_used_at = serializers.DateTimeField(allow_null=True)
    last_used_ip = serializers.IPAddressField(allow_null=True)

    def get_last_four(self, secret: Secret) -> str | None:
        return secret.known_as.get("last_four")

    def get_kid(self, secret: Secret) -> str | None:
        return secret.known_as.get("kid")

    def get_algorithm(self, secret: Secret) -> str | None:
        return (secret.public_key or {}).get("alg")


class RotationOutput(serializers.Serializer):
    """Two secrets work, the older one until the deadline."""

    deadline = serializers.DateTimeField()


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
    last_four = serializers.SerializerMethodField(help_text="Of its newest secret; null while it has none.")
    secrets = serializers.SerializerMethodField()
    rotation = serializers.SerializerMethodField()
    ip_allowlist = serializers.ListField(child=serializers.CharField())
    audiences = serializers.ListField(child=serializers.CharField())
    not_before = serializers.DateTimeField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)
    disabled_at = serializers.DateTimeField(allow_null=True)
    created_at = serializers.DateTimeField()
    last_used_at = serializers.DateTimeField(allow_null=True, help_text="To the minute.")
    last_used_ip = serializers.IPAddressField(allow_null=True)
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

    def get_last_four(self, token: ApiToken) -> str | None:
        return token.last_four or None

    @extend_schema_field(SecretOutput(many=True))
    def get_secrets(self, token: ApiToken) -> list[dict[str, object]]:
        live = versions.live_among(token.held_versions, self.context["at"])
        return [dict(SecretOutput(secret).data) for secret in live]

    @extend_schema_field(RotationOutput(allow_null=True))
    def get_rotation(self, token: ApiToken) -> dict[str, object] | None:
        under_way = versions.rotation_among(token.held_versions, self.context["at"])
        return dict(RotationOutput(under_way).data) if under_way else None

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
    """The only answer that ever holds the secret; none for a token that proves itself by its own key."""

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
