from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from accounts import seeds
from apitokens import keyring
from apitokens.governance import signing_keys, sso
from apitokens.models import SigningKey
from apitokens.principals import system
from audit.services import Refusal
from config import keyfiles
from tenants.models import Environment

SHOWN = 20


class Command(BaseCommand):
    help = "The signing keys of every environment, and the key-encryption keys that guard them and people's seeds."

    def add_arguments(self, parser: Any) -> None:
        parser.set_defaults(act=self._list, environment=None)
        parser.add_argument("--environment", help="slug: list its keys; without it those of every environment")
        actions = parser.add_subparsers(title="actions", metavar="ACTION")
        rotate = actions.add_parser("rotate", help="publish a successor, which takes over when it is due")
        rotate.add_argument("--environment", required=True, help="slug")
        rotate.set_defaults(act=self._rotate)
        # A key id may begin with a hyphen, and is no option for that.
        compromised = actions.add_parser(
            "compromised", help="kill a key, and all that it signed, at once", prefix_chars="+", add_help=False
        )
        compromised.add_argument("kid", help="the whole key id")
        compromised.set_defaults(act=self._compromised)
        move = actions.add_parser("move", help="take the steps that are due, as the worker does each minute")
        move.set_defaults(act=self._move)
        add = actions.add_parser("add-encryption-key", help="a new key-encryption key, before the others")
        add.set_defaults(act=self._add_encryption_key)
        reencrypt = actions.add_parser(
            "reencrypt", help="put every private part and every seed under the first key-encryption key"
        )
        reencrypt.set_defaults(act=self._reencrypt)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            options["act"](options, timezone.now())
        except Refusal as refusal:
            raise CommandError(f"{refusal} Nothing was changed.") from refusal
        except (keyfiles.KeyMissing, keyfiles.KeyUnusable) as error:
            raise CommandError(f"{error} Nothing was changed.") from error

    def _list(self, options: dict[str, Any], at: datetime) -> None:
        environments = _environments(options["environment"])
        for environment in environments:
            self.stdout.write(
                f"{environment.name} ({environment.slug}); the next key is for {environment.signing_algorithm}"
            )
            ring = list(keyring.ring(environment).order_by("-created_at", "-id")[:SHOWN])
            ends = keyring.ends_of(ring)
            for key in ring:
                self.stdout.write(f"  {key.kid}  {key.algorithm}  {key.state}, {_since(key, ends.get(key.id))}")
        self._say_wrapping(environments)

    def _rotate(self, options: dict[str, Any], at: datetime) -> None:
        (environment,) = _environments(options["environment"])
        key = signing_keys.rotate(by=system(environment), environment=environment, at=at)
        self.stdout.write(f"Published {key.kid} for {key.algorithm}: it signs from {_told(key.active_from)}.")
        self.stdout.write("The worker moves it then, or `manage.py keys move`. Until then the active key goes on.")

    def _compromised(self, options: dict[str, Any], at: datetime) -> None:
        kid = options["kid"]
        key = SigningKey.objects.select_related("environment").filter(kid=kid).first()
        if key is None:
            raise CommandError(f"There is no signing key {kid}: `manage.py keys` lists them. Nothing was changed.")
        signing_keys.compromise(by=system(key.environment), key=key, typed=kid, at=at)
        active = keyring.active_key(key.environment)
        self.stdout.write(f"{kid} is dead, and all that it signed. {active.kid} signs for {key.environment.name}.")
        self.stdout.write(
            "Who verifies offline may accept what it signed until they fetch the JWKS again, "
            f"for {settings.JWKS_MAX_AGE} seconds at most."
        )

    def _move(self, options: dict[str, Any], at: datetime) -> None:
        moved = signing_keys.move(at=at)
        self.stdout.write(f"Keys moved: {moved}." if moved else "Nothing was due.")

    def _add_encryption_key(self, options: dict[str, Any], at: datetime) -> None:
        if keyfiles.is_set("KEY_ENCRYPTION_KEYS"):
            self.stdout.write("KEY_ENCRYPTION_KEYS is set in the environment. Put this before what is there:")
            self.stdout.write(f"  {keyfiles.new_encryption_key()},")
        else:
            keyfiles.add_encryption_key(settings.VAR_DIR)
            self.stdout.write(f"A new one is first in {settings.VAR_DIR / 'key-encryption-keys'}. Back it up.")
        self.stdout.write(
            "Restart every process with it, then `manage.py keys reencrypt`: it says when the old ones can go."
        )

    def _reencrypt(self, options: dict[str, Any], at: datetime) -> None:
        self.stdout.write(f"Private parts encrypted anew: {signing_keys.reencrypt()}.")
        self.stdout.write(f"Seeds of authenticators encrypted anew: {seeds.reencrypt()}.")
        self.stdout.write(f"Client secrets of single sign-on encrypted anew: {sso.reencrypt()}.")
        self._say_wrapping(_environments(None))

    def _say_wrapping(self, environments: Iterable[Environment]) -> None:
        found, of_people = [signing_keys.wrapping(environment) for environment in environments], seeds.wrapping()
        for key in (key for wrapping in found for key in wrapping.unreadable):
            self.stderr.write(
                f"No key-encryption key opens {key.kid}: bring back the one it is under, or declare it compromised."
            )
        if of_people.unreadable:
            self.stderr.write(
                f"No key-encryption key opens {of_people.unreadable} seeds of authenticator apps and recovery codes: "
                "bring back the one they are under, or their owners can't use them."
            )
        of_providers = sso.wrapping()
        if of_providers.unreadable:
            self.stderr.write(
                f"No key-encryption key opens {of_providers.unreadable} client secrets of single sign-on: bring back "
                "the one they are under, or nobody can sign in by them."
            )
        old, others = sum(len(wrapping.under_old) for wrapping in found), len(settings.KEY_ENCRYPTION_KEYS) - 1
        if old or of_people.under_old or of_providers.under_old:
            seeds_too = f" and {of_people.under_old} seeds of authenticators" if of_people.under_old else ""
            secrets_too = f" and {of_providers.under_old} client secrets" if of_providers.under_old else ""
            self.stdout.write(
                f"Under an old key-encryption key: {old}{seeds_too}{secrets_too}. Before that goes, "
                "`manage.py keys reencrypt`."
            )
        elif others and not (
            of_people.unreadable or of_providers.unreadable or any(wrapping.unreadable for wrapping in found)
        ):
            self.stdout.write(f"Nothing is under an old key-encryption key: the {others} behind the first can go.")


def _environments(slug: str | None) -> list[Environment]:
    """Those on hold before they are erased are among them: they can be restored."""
    found = Environment.objects.order_by("slug")
    named = list(found if slug is None else found.filter(slug=slug))
    if slug is not None and not named:
        known = ", ".join(found.values_list("slug", flat=True)[:SHOWN]) or "none"
        raise CommandError(f"There is no environment {slug}. There are: {known}. Nothing was changed.")
    return named


def _since(key: SigningKey, until: datetime | None) -> str:
    match SigningKey.State(key.state):
        case SigningKey.State.PUBLISHED:
            return f"signs from {_told(key.active_from)}"
        case SigningKey.State.ACTIVE:
            return f"signs since {_told(key.active_from)}"
        case SigningKey.State.RETIRING:
            return f"signed until {_told(key.retiring_from)}, verifies until {_told(until)}"
    return f"since {_told(key.ended_at)}"


def _told(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC" if at else ""
