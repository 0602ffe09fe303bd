"""Who a person is. What a person may do is for `tenants`."""

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from uuid_utils.compat import uuid7


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str | None, password: str | None = None, **fields: object) -> "User":
        """A local person signs in with e-mail and password; without a password, sign-in waits for a one-time link."""
        user = self.model(email=self.normalize_email(email) if email else None, **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: object) -> "User":
        """An operator, who may open Django's admin where it is mounted; no member of anything by that."""
        if self.filter(email__iexact=email, voucher_id__isnull=True).exists():
            raise ValidationError("Somebody signs in with this e-mail already: choose another one for the operator.")
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        # Only local people sign in by e-mail: a vouched identity with the same address must stay out of reach (R12).
        return self.get(email__iexact=username, voucher_id__isnull=True)


class User(AbstractBaseUser, PermissionsMixin):
    """A person: local (e-mail and password), or vouched for by an environment or a tenant (R12)."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    email = models.EmailField(null=True, blank=True)  # noqa: DJ001 -- a vouched person may have none
    name = models.CharField(max_length=150, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    # An IANA name; empty: UTC.
    time_zone = models.CharField(max_length=64, blank=True)
    # One of settings.LANGUAGES; empty: what the browser asks for.
    language = models.CharField(max_length=16, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    # Nothing of the person is left in the row; it stays because tokens and the record name its id.
    erased_at = models.DateTimeField(null=True, blank=True, editable=False)
    voucher_id = models.UUIDField(null=True, blank=True, editable=False)
    voucher_user_id = models.CharField(max_length=255, null=True, blank=True, editable=False)  # noqa: DJ001 -- absent is not empty

    objects = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"
    REQUIRED_FIELDS = []

    class Meta:
        constraints = [
            models.UniqueConstraint(
                Lower("email"), condition=models.Q(voucher_id__isnull=True), name="user_local_email_unique"
            ),
            models.UniqueConstraint(fields=["voucher_id", "voucher_user_id"], name="user_vouched_identity_unique"),
            models.CheckConstraint(
                condition=models.Q(voucher_id__isnull=True, voucher_user_id__isnull=True)
                | models.Q(voucher_id__isnull=False, voucher_user_id__isnull=False),
                name="user_voucher_and_its_id_together",
            ),
            models.CheckConstraint(
                condition=models.Q(voucher_id__isnull=False) | models.Q(email__isnull=False),
                name="user_local_has_email",
            ),
        ]

    def __str__(self) -> str:
        return str(_("A former member")) if self.erased_at else self.name or self.email or str(self.id)


class CacheEntry(models.Model):
    """The table behind Django's database cache, so that sign-in limits are one for all workers and need no broker."""

    cache_key = models.CharField(max_length=255, primary_key=True)
    value = models.TextField()
    expires = models.DateTimeField(db_index=True)

    class Meta:
        db_table = "cache"

    def __str__(self) -> str:
        return self.cache_key
