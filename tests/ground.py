"""The world that most tests stand on: made once in a process, in a transaction around those of the tests.

Making it takes as long as most tests do. Only tests that run in a transaction of their own can share it; those that
commit, and those that begin with an empty database, are preceded by its end.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import ClassVar

import pytest
from django.db import connection, transaction

from tests.cast import make_environment, make_house, make_office
from tests.factories import VendorFactory


class Ground:
    """Whether the world is in the database now, and what it is made of."""

    _here: ClassVar["Ground | None"] = None

    def __init__(self, blocker) -> None:
        self._blocker = blocker
        self._transaction: transaction.Atomic | None = None
        self.world: SimpleNamespace | None = None

    @classmethod
    @contextmanager
    def of_this_process(cls, blocker) -> Iterator["Ground"]:
        cls._here = ground = cls(blocker)
        ground.open()
        try:
            yield ground
        finally:
            ground.close()
            cls._here = None

    @classmethod
    def prepare_for(cls, item: pytest.Item) -> None:
        """Open or closed, as that test needs it; before the first test that asks for it there is nothing to do."""
        if not (ground := cls._here):
            return
        if not stands_on_it(item):
            ground.close()
        elif not ground.is_open:
            ground.open()

    @property
    def is_open(self) -> bool:
        return self._transaction is not None

    def open(self) -> None:
        with self._blocker.unblock():
            # As Django's TestCase marks its own, so that a durable block inside is one.
            self._transaction = transaction.atomic()
            self._transaction._from_testcase = True
            self._transaction.__enter__()
            self.world = make_world()

    def close(self) -> None:
        if self._transaction is None:
            return
        with self._blocker.unblock():
            transaction.set_rollback(True)
            self._transaction.__exit__(None, None, None)
            self._transaction = self.world = None
            assert not connection.in_atomic_block


def stands_on_it(item: pytest.Item) -> bool:
    marker = item.get_closest_marker("django_db")
    commits = {"transactional_db", "live_server"} & set(item.fixturenames)
    return "world" in item.fixturenames and not commits and not (marker and marker.kwargs.get("transaction"))


def make_world() -> SimpleNamespace:
    vendor = VendorFactory()
    production = make_environment(vendor=vendor, name="Production")
    staging = make_environment(vendor=vendor, name="Staging")
    return SimpleNamespace(
        vendor=vendor,
        production=production,
        staging=staging,
        acme=make_house(production, "Acme"),
        globex=make_house(production, "Globex"),
        acme_staging=make_house(staging, "Acme"),
        office=make_office(vendor),
    )
