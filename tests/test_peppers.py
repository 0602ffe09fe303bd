"""Peppers come and go: a secret moves to the newest when it is used, and an old pepper leaves when it guards none."""

import re
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from apitokens import credentials, gathering, rotation
from apitokens.models import Secret
from apitokens.principals import system
from config import keyfiles
from tests.cast import bearer, grant

NEW = b"another pepper of thirty-two byte"


@pytest.fixture
def peppers(settings):
    """The one of before, as number 1."""
    settings.PEPPERS = {1: next(iter(settings.PEPPERS.values()))}
    return settings


def run(*arguments):
    out = StringIO()
    call_command("peppers", *arguments, stdout=out)
    return out.getvalue()


def pepper_of(issued):
    return Secret.objects.get(token=issued.token, slot__isnull=False).pepper_id


def works(issued):
    if issued.token.kind == "client_credentials":
        return grant(Client(), issued).status_code == 200
    return Client().get("/api/v1/token/self", headers=bearer(issued.plaintext)).status_code == 200


@pytest.mark.parametrize("kind", ["access_token", "client_credentials"])
def test_a_secret_moves_to_the_new_pepper_when_it_is_used_and_the_old_one_can_go(acme, peppers, kind):
    used, idle = acme.issue("admin", name="Used", kind=kind), acme.issue("admin", name="Idle", kind=kind)
    assert run() == (
        "Pepper 1: 2 live secrets, 2 of them never used; 0 retired\n"
        "  The newest: new secrets have it, and older ones get it when they are used.\n"
    )
    peppers.PEPPERS = {**peppers.PEPPERS, 2: NEW}
    assert works(used)
    assert pepper_of(used) == 1
    gathering.flush(at=timezone.now())
    assert (pepper_of(used), pepper_of(idle)) == (2, 1)
    stored = Secret.objects.get(token=used.token)
    assert bytes(stored.digest) == credentials.digest(used.plaintext, NEW)
    assert works(used)
    report = run()
    assert "Pepper 1: 1 live secrets, 1 of them never used; 0 retired\n  Still needed by those" in report
    assert re.search(r"Pepper 2: 1 live secrets, 0 of them never used; 0 retired; last used \d{4}-\d\d-\d\d", report)

    assert works(idle)
    gathering.flush(at=timezone.now())
    assert "Pepper 1: 0 live secrets, 0 of them never used; 0 retired\n  Can go.\n" in run()
    peppers.PEPPERS = {2: NEW}
    assert (works(used), works(idle)) == (True, True)
    assert "Pepper 1" not in run()


def test_a_pepper_that_guards_a_live_secret_is_missed(acme, peppers):
    token = acme.issue("admin")
    peppers.PEPPERS = {2: NEW}
    assert not works(token)
    assert "Pepper 1: 1 live secrets, 1 of them never used; 0 retired\n  MISSING: these are refused" in run()
    Secret.objects.update(slot=None, retired_at=timezone.now())
    assert "1 retired\n  Gone, and nothing that works needs it." in run()


def test_a_retired_secret_whose_pepper_has_gone_is_no_fault(acme, peppers, caplog):
    issued = acme.issue("admin", kind="client_credentials")
    peppers.PEPPERS = {**peppers.PEPPERS, 2: NEW}
    by = system(acme.environment)
    new = rotation.rotate(by=by, token=issued.token, at=timezone.now(), overlap=0)
    of_it = Secret.objects.filter(token=issued.token)
    assert (of_it.get(slot=None).pepper_id, of_it.exclude(slot=None).get().pepper_id) == (1, 2)
    peppers.PEPPERS = {2: NEW}
    assert works(new)
    assert not works(issued)
    assert [line.message for line in caplog.records if line.levelname == "ERROR"] == []


def test_retired_secrets_do_not_keep_a_pepper(acme, peppers):
    acme.issue("admin")
    Secret.objects.update(slot=None, retired_at=timezone.now())
    peppers.PEPPERS = {**peppers.PEPPERS, 2: NEW}
    assert "Can go; retired secrets that have it would then not be noticed" in run()


def test_a_new_pepper_is_added_to_the_file_which_keeps_the_others(tmp_path, settings):
    keyfiles.make_missing(tmp_path)
    settings.VAR_DIR, path = tmp_path, tmp_path / "peppers"
    before = keyfiles.parse_peppers(path.read_text())
    for number in (2, 3):
        assert f"Pepper {number} is in {path}." in run("add")
    after = keyfiles.parse_peppers(path.read_text())
    assert ({1: after[1]}, sorted(after), len(set(after.values()))) == (before, [1, 2, 3], 3)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted(keyfiles.MAKERS)


def test_a_pepper_from_the_environment_is_printed_to_be_set_there(tmp_path, settings, monkeypatch):
    settings.VAR_DIR = tmp_path
    monkeypatch.setenv("PEPPERS", "as the process was started")
    printed = re.search(r"^  ,(\S+)$", run("add"), re.MULTILINE)[1]
    assert list(keyfiles.parse_peppers(printed)) == [max(settings.PEPPERS) + 1]
    assert list(tmp_path.iterdir()) == []


def test_what_somebody_else_is_changing_is_left_alone(tmp_path, settings):
    keyfiles.make_missing(tmp_path)
    settings.VAR_DIR, before = tmp_path, (tmp_path / "peppers").read_text()
    (tmp_path / ".peppers.new").write_text("half a")
    with pytest.raises(CommandError, match=r"Somebody is changing .* Nothing was changed"):
        run("add")
    assert (tmp_path / "peppers").read_text() == before


def test_a_file_that_is_not_there_is_asked_for(tmp_path, settings):
    settings.VAR_DIR = tmp_path
    with pytest.raises(CommandError, match="peppers"):
        run("add")
