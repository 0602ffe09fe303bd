from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db.models import Count, Max, Q

from apitokens.models import Secret
from config import keyfiles

NONE: dict[str, Any] = {"live": 0, "retired": 0, "never": 0, "last": None}


class Command(BaseCommand):
    help = "The peppers that secrets are digested with: how many secrets each has, and which can go."

    def add_arguments(self, parser: Any) -> None:
        parser.set_defaults(act=self._list)
        actions = parser.add_subparsers(title="actions", metavar="ACTION")
        add = actions.add_parser("add", help="a new pepper: for new secrets, and for old ones when they are used")
        add.set_defaults(act=self._add)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            options["act"]()
        except (keyfiles.KeyMissing, keyfiles.KeyUnusable) as error:
            raise CommandError(f"{error} Nothing was changed.") from error

    def _add(self) -> None:
        if keyfiles.is_set("PEPPERS"):
            self.stdout.write("PEPPERS is set in the environment. Append this, and keep what is there:")
            self.stdout.write(f"  ,{keyfiles.new_pepper(max(settings.PEPPERS) + 1)}")
        else:
            number = keyfiles.add_pepper(settings.VAR_DIR)
            self.stdout.write(f"Pepper {number} is in {settings.VAR_DIR / 'peppers'}. Back it up.")
        self.stdout.write(
            "Stop every process, and start them all with it: one that lacks it refuses what is digested with it.\n"
            "Secrets move to it when they are used; `manage.py peppers` says when an old one can go."
        )

    def _list(self) -> None:
        found = _secrets_by_pepper()
        for number in sorted(found.keys() | settings.PEPPERS.keys()):
            row = found.get(number, NONE)
            self.stdout.write(
                f"Pepper {number}: {row['live']} live secrets, {row['never']} of them never used; "
                f"{row['retired']} retired" + (f"; last used {row['last']:%Y-%m-%d %H:%M} UTC" if row["last"] else "")
            )
            self.stdout.write(f"  {_verdict(number, row)}")


def _secrets_by_pepper() -> dict[Any, Any]:
    """A row of counts by the number of the pepper."""
    is_live = Q(slot__isnull=False)
    rows = (
        Secret.objects.filter(digest__isnull=False)
        .values("pepper_id")
        .annotate(
            live=Count("pk", filter=is_live),
            retired=Count("pk", filter=~is_live),
            never=Count("pk", filter=is_live & Q(last_used_at__isnull=True)),
            last=Max("last_used_at", filter=is_live),
        )
    )
    return {row["pepper_id"]: row for row in rows}


def _verdict(number: int, row: dict[str, Any]) -> str:
    newest = max(settings.PEPPERS)
    if number == newest:
        return "The newest: new secrets have it, and older ones get it when they are used."
    if number not in settings.PEPPERS:
        return (
            "MISSING: these are refused until it is back." if row["live"] else "Gone, and nothing that works needs it."
        )
    if row["live"]:
        return f"Still needed by those that have not been used since pepper {newest} came: without it they are refused."
    if row["retired"]:
        return "Can go; retired secrets that have it would then not be noticed when somebody presents one."
    return "Can go."
