"""The README's session runs as it stands, and answers what the README says it answers."""

import re
from pathlib import Path

import pytest
from django.conf import settings

README = Path(settings.BASE_DIR, "README.md")


def console_session() -> str:
    """The commands of the console block: lines after `$ `, with their continuations, without what they printed."""
    block = re.search(r"```console\n(.*?)```", README.read_text(), re.DOTALL)[1]
    commands, continues = [], False
    for line in block.splitlines():
        if continues or line.startswith("$ "):
            commands.append(line.removeprefix("$ "))
            continues = line.endswith("\\")
    return "\n".join(commands)


@pytest.mark.process
def test_the_readme_session_makes_a_token_exchanges_it_and_uses_it(server):
    session = console_session().replace("localhost:8000", server.origin.removeprefix("http://"))
    printed = server.run("bash", "-euo", "pipefail", "-c", session)
    assert '"name":"Nightly"' in printed
    assert '"token_type": "Bearer"' in printed
    assert '"tenant_external_id":"birch-001"' in printed
    assert '"roles":[],"scope":"reports:read"' in printed


def test_the_readme_fits_one_screen():
    assert len(README.read_text().splitlines()) <= 60
