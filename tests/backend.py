"""The vendor's backend at the real server: it makes tokens over the API, as the vendor's own program would."""

from itertools import count
from typing import Any

import requests

from tests.cast import bearer
from tests.server import Server

READ = "reports:read"
BIRCH = "birch-001"


class Backend:
    """Of one environment of the demo, by its name: "Production" or "Staging"."""

    def __init__(self, server: Server, environment: str = "Production") -> None:
        index = [known["name"] for known in server.demo["environments"]].index(environment)
        self.environment: dict[str, str] = server.demo["environments"][index]
        self.own: dict[str, str] = server.demo["environment_tokens"][index]
        self.issuer, self.audience = self.environment["issuer"], self.environment["audience"]
        self.origin, self.demo = server.origin, server.demo
        self._machine = server.machine()
        self._numbers = count(1)

    @property
    def client(self) -> tuple[str, str]:
        """Id and secret of the backend's own client."""
        return self.own["client_id"], self.own["client_secret"]

    @property
    def token_endpoint(self) -> str:
        return f"{self.origin}/oauth2/token"

    def send(self, method: str, address: str, **options: Any) -> requests.Response:
        return self._machine.request(method, address, **options)

    def api(self, method: str, path: str, body: object = None) -> requests.Response:
        return self._machine.api(method, path, body, **bearer(self.own["access_token"]))

    def make(self, *, kind: str = "client_credentials", **asked: Any) -> dict[str, Any]:
        """What the API answers to a token of Birch Bank's that may read reports, if nothing else is asked."""
        grant = {} if {"roles", "permissions"} & set(asked) else {"permissions": [READ]}
        place = {} if asked.get("owner") == "environment" else {"tenant": BIRCH}
        named = {"name": f"{type(self).__name__} {next(self._numbers)} {id(self)}", "kind": kind}
        answer = self.api("POST", "tokens", {**named, **place, **grant, **asked})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def disable(self, made: dict[str, Any]) -> None:
        answer = self.api("POST", f"tokens/{made['id']}/disable")
        assert answer.status_code == 200, answer.text

    def grant(self, made: dict[str, Any], **asked: str) -> str:
        """A JWT for that client."""
        answer = self.send(
            "POST",
            self.token_endpoint,
            data={"grant_type": "client_credentials", **asked},
            auth=(made["client_id"], made["client_secret"]),
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["access_token"]

    def document(self, address: str) -> Any:
        """Something public, as JSON."""
        answer = self.send("GET", address)
        assert answer.status_code == 200, answer.text
        return answer.json()
