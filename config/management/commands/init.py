from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.urls import reverse
from django.utils import timezone
from django.utils.text import slugify

from accounts.models import User
from apitokens import principals, services
from apitokens.models import Kind, Owner
from apitokens.orders import Expiry, Grant, Order
from apitokens.setup import create_environment
from audit.actors import SYSTEM
from tenants.models import Environment, Vendor, VendorMembership


class Command(BaseCommand):
    help = "Set up a real installation: the vendor, its first environment, and a one-time link for its owner."

    def add_arguments(self, parser):
        parser.add_argument("--vendor", required=True, help="the vendor's name, as people know it")
        parser.add_argument("--owner", required=True, help="e-mail of the vendor's owner, who will sign in with it")
        parser.add_argument("--environment", default="Production", help="name of the first environment")
        parser.add_argument(
            "--with-token", action="store_true", help="also make an access token for the vendor's backend"
        )
        parser.add_argument("--audience", required=True, help="URI of the vendor's API: the `aud` of its JWTs")

    @transaction.atomic
    def handle(self, *args, **options):
        if Vendor.objects.exists():
            raise CommandError("This installation has a vendor already; nothing was changed.")
        slug = slugify(options["vendor"])[:40].strip("-")
        stage = slugify(options["environment"])[:20].strip("-")
        if not slug or not stage:
            raise CommandError("The names of vendor and environment need a letter or a digit.")
        vendor = Vendor.objects.create(name=options["vendor"], slug=slug)
        environment = create_environment(
            actor=SYSTEM,
            vendor=vendor,
            name=options["environment"],
            slug=f"{slug}-{stage}",
            token_prefix=f"{slug}_{stage}".replace("-", "_")[:32],
            audience=options["audience"],
            at=timezone.now(),
        )
        owner = User.objects.create_user(options["owner"])
        VendorMembership.objects.create(vendor=vendor, user=owner, role=VendorMembership.Role.OWNER)
        self.stdout.write(f"Issuer: {environment.issuer}")
        self.stdout.write(f"{owner.email} chooses a password here, once: {one_time_link(owner)}")
        if options["with_token"]:
            self.stdout.write(f"The backend's access token, shown this once: {backend_token(environment)}")


def backend_token(environment: Environment) -> str:
    """The API's first caller, with the role made for backends; it makes all the others."""
    order = Order(
        owner=Owner.ENVIRONMENT,
        kind=Kind.ACCESS_TOKEN,
        name="Backend",
        grant=Grant(roles=("backend",)),
        expiry=Expiry(never=True),
    )
    return services.issue(by=principals.system(environment), tenant=None, order=order, at=timezone.now()).secret()


def one_time_link(user: User) -> str:
    """Opens the page that sets a password; worthless once one is set, or after three days."""
    uid, key = user_pk_to_url_str(user), default_token_generator.make_token(user)
    return settings.ORIGIN + reverse("account_reset_password_from_key", kwargs={"uidb36": uid, "key": key})
