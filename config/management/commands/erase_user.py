from uuid import UUID

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts.models import User
from apitokens.governance import erasure
from audit.actors import SYSTEM
from audit.services import Refusal


class Command(BaseCommand):
    help = (
        "Erase a person: their personal tokens are deleted, their memberships end, their name and e-mail are gone. "
        "There is no undo. What they made for a tenant or the vendor stays."
    )

    def add_arguments(self, parser):
        parser.add_argument("person", help="e-mail of somebody who signs in here, or the id of anybody")
        parser.add_argument(
            "--force", action="store_true", help="also the last owner: nobody could manage the place then"
        )

    def handle(self, *args, **options):
        user = _found(options["person"])
        try:
            erased = erasure.erase_user(user=user, actor=SYSTEM, at=timezone.now(), force=options["force"])
        except Refusal as refusal:
            hint = " Or say --force." if refusal.code == "last_owner" else ""
            raise CommandError(f"{refusal}{hint} Nothing was changed.") from refusal
        self.stdout.write(f"Erased {user.id}; nothing of the person is left but this id.")
        self.stdout.write(f"  {erased.tokens} personal tokens deleted")
        self.stdout.write(
            f"  {erased.memberships} memberships of tenants and {erased.vendor_memberships} of vendors ended"
        )
        self.stdout.write(f"  {erased.invitations} invitations withdrawn, {erased.sessions} sessions ended")


def _found(person: str) -> User:
    """By id, or by the e-mail of a local sign-in: a vouched identity is told by its id alone (R12)."""
    try:
        found = User.objects.filter(pk=UUID(person)).first()
    except ValueError:
        found = User.objects.filter(email__iexact=person, voucher_id__isnull=True).first()
    if found is None:
        raise CommandError("There is no such person; nothing was changed.")
    return found
