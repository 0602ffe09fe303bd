"""Calls beside each other on real transactions, and waiting until the database itself says that they wait."""

import threading
import time
from contextlib import contextmanager

import pytest
from django.db import connection, connections, transaction

SECONDS = 20
NEW = {"name": "CI", "kind": "access_token"}


class Call(threading.Thread):
    """A request on a connection of its own."""

    def __init__(self, act):
        super().__init__(daemon=True)
        self.act, self.answer, self.error = act, None, None
        self.start()

    def run(self):
        try:
            self.answer = self.act()
        except Exception as error:  # noqa: BLE001 -- raised again by `result`, in the test's own thread
            self.error = error
        finally:
            connections.close_all()

    def result(self):
        self.join(SECONDS)
        assert not self.is_alive(), "it still waits"
        if self.error:
            raise self.error
        return self.answer


def ready(house, person, method, path, body=None, **headers):
    """That person's call, signed in beforehand, so that only the call itself runs beside others."""
    browser = house.browser(person)
    browser.raise_request_exception = False
    house.form(browser)
    headers = {"X-CSRFToken": browser.cookies["csrftoken"].value, **headers}
    sent = {"data": body or {}, "content_type": "application/json", "headers": headers}
    return lambda: getattr(browser, method)(f"/api/v1/{path}", **sent)


def issue(house, person="admin", **asked):
    """That person's call for a new token."""
    headers = {"Idempotency-Key": asked.pop("nonce")} if "nonce" in asked else {}
    return ready(house, person, "post", f"tokens?tenant={house.tenant.id}", {**NEW, **asked}, **headers)


def wait_for_blocked(count):
    """Until so many others wait for locks; an endless wait is a lock that is not taken."""
    deadline = time.monotonic() + SECONDS
    blocked = 0
    while time.monotonic() < deadline:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")
            cursor.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            blocked = cursor.fetchone()[0]
        if blocked == count:
            return
        time.sleep(0.01)
    pytest.fail(f"{blocked} wait for a lock, not {count}")


class Undone(Exception):
    """Ends a transaction that is to leave nothing."""


@contextmanager
def held(row, *, undone=False):
    """A transaction that holds the row as a change of it would; committed at the end, or undone."""
    try:
        with transaction.atomic():
            type(row).objects.select_for_update().get(pk=row.pk)
            yield
            if undone:
                raise Undone
    except Undone:
        pass
