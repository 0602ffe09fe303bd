import logging
import signal
import threading

from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, close_old_connections

from config import housekeeping

EVERY_SECONDS = 60
logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Work in the background: housekeeping each minute, until it is told to stop."

    def add_arguments(self, parser):
        parser.add_argument("--once", action="store_true", help="one round, then end")

    def handle(self, *args, **options):
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.is_set():
            try:
                erased = housekeeping.run()
                logger.debug("housekeeping erased %s rows", erased)
            except (OperationalError, InterfaceError) as error:
                logger.warning("housekeeping waits: the database does not answer (%s)", type(error).__name__)
            if options["once"]:
                return
            # As Django does between requests: a connection that broke meanwhile must not be used again.
            close_old_connections()
            stop.wait(EVERY_SECONDS)
