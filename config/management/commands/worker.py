import logging
import signal
import threading
from collections.abc import Callable

from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, close_old_connections
from django.utils import timezone

from apitokens.governance import signing_keys
from config import housekeeping

EVERY_SECONDS = 60
# What is done, and how it counts what it did: keys moved, rows erased.
ROUND: dict[str, Callable[..., int]] = {"signing keys": signing_keys.move, "erasures": housekeeping.run}
logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Work in the background, each minute until it is told to stop: move signing keys, erase what has had its time."
    )

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="one round, then end")

    def handle(self, *args, **options):
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            for name, work in ROUND.items():
                try:
                    logger.debug("%s: %s", name, work(at=timezone.now()))
                except (OperationalError, InterfaceError) as error:
                    logger.warning("%s wait: the database does not answer (%s)", name, type(error).__name__)
                except Exception:  # the other steps, and the next round, must come, whatever this was
                    logger.exception("%s failed", name)
            if options["once"]:
                return
            # As Django does between requests: a connection that broke meanwhile must not be used again.
            close_old_connections()
            stop.wait(EVERY_SECONDS)
