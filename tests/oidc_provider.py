"""A small OpenID Connect provider over real HTTP: discovery, a form to sign in, code with PKCE, keys, user info.

A test may bend what it says (`claims`, `header`, `signed_by`, `published`), to see that nobody believes it. Started by
`python -m tests.oidc_provider PORT` it serves a browser.
"""

import json
import sys
import threading
import time
from base64 import b64decode, urlsafe_b64encode
from contextlib import contextmanager
from hashlib import sha256
from html import escape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from secrets import token_urlsafe
from urllib.parse import parse_qs, parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa

CLIENT_ID, CLIENT_SECRET = "tallystick:portal", "s3cret of the client: never stored in clear"
FORM = """<!doctype html><html lang="en"><title>Sign in to the provider</title><h1>Sign in to the provider</h1>
<form method="post" action="/authorize?{query}"><label>User <input name="sub"></label>
<label>E-mail <input name="email"></label><label>Name <input name="name"></label>
<button>Sign in there</button></form>"""


def new_key():
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


class Provider:
    def __init__(self, port: int = 0) -> None:
        self.key, self.kid = new_key(), "one"
        self.codes: dict[str, dict] = {}
        self.people: dict[str, dict] = {}
        self.asked: list[dict[str, str]] = []
        # What a test bends; empty, it does as it should.
        self.claims: dict[str, object] = {}
        self.header: dict[str, object] = {}
        self.published: dict[str, object] = {}
        self.signed_by = None
        self.algorithm = "RS256"
        self.answers: dict[str, tuple[int, bytes]] = {}
        self.server = ThreadingHTTPServer(("127.0.0.1", port), _handler(self))
        self.server.daemon_threads = True
        self.issuer = f"http://127.0.0.1:{self.server.server_port}"

    def authorize(self, url: str, sub: str, *, signed_in_at: float | None = None, **about: object) -> str:
        """As if that person had filled the form in: where the browser is sent back to."""
        asked = dict(parse_qsl(urlsplit(url).query))
        self.asked.append(asked)
        code = token_urlsafe(16)
        at = time.time() if signed_in_at is None else signed_in_at
        self.people[sub] = {"sub": sub, **about}
        self.codes[code] = {**asked, "sub": sub, "auth_time": int(at)}
        return f"{asked['redirect_uri']}?{urlencode({'code': code, 'state': asked['state']})}"

    def configuration(self) -> dict[str, object]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/jwks",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            **self.published,
        }

    def jwks(self) -> dict[str, object]:
        public = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(self.key.public_key()))
        return {"keys": [{**public, "kid": self.kid, "use": "sig", "alg": "RS256"}]}

    def exchange(self, form: dict[str, str], basic: str) -> tuple[int, dict]:
        if basic:
            name, _, secret = b64decode(basic.removeprefix("Basic ")).decode().partition(":")
            proof = unquote_plus(name), unquote_plus(secret)
        else:
            proof = form.get("client_id"), form.get("client_secret")
        granted = self.codes.pop(form.get("code", ""), None)
        if proof != (CLIENT_ID, CLIENT_SECRET):
            return 401, {"error": "invalid_client"}
        challenge = urlsafe_b64encode(sha256(form.get("code_verifier", "").encode()).digest()).rstrip(b"=").decode()
        if granted is None or granted["code_challenge"] != challenge or form["redirect_uri"] != granted["redirect_uri"]:
            return 400, {"error": "invalid_grant"}
        claims = {
            "iss": self.issuer, "aud": granted["client_id"], "sub": granted["sub"], "nonce": granted["nonce"],
            "iat": int(time.time()), "exp": int(time.time()) + 300, "auth_time": granted["auth_time"], **self.claims,
        }  # fmt: skip
        claims = {name: value for name, value in claims.items() if value is not None}
        key = self.signed_by or self.key
        id_token = jwt.encode(claims, key, algorithm=self.algorithm, headers={"kid": self.kid, **self.header})
        return 200, {"access_token": granted["sub"], "token_type": "Bearer", "id_token": id_token}

    def userinfo(self, token: str) -> dict[str, object]:
        return self.people[token]


def _handler(provider: Provider):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            path, _, query = self.path.partition("?")
            if path in provider.answers:
                self._send(*provider.answers[path])
            elif path == "/.well-known/openid-configuration":
                self._json(200, provider.configuration())
            elif path == "/jwks":
                self._json(200, provider.jwks())
            elif path == "/userinfo":
                self._json(200, provider.userinfo(self.headers["Authorization"].removeprefix("Bearer ")))
            elif path == "/authorize":
                self._send(200, FORM.format(query=escape(query)).encode(), "text/html; charset=utf-8")
            else:
                self._json(404, {})

        def do_POST(self):
            path = self.path.partition("?")[0]
            body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
            form = {name: values[0] for name, values in parse_qs(body, keep_blank_values=True).items()}
            if path in provider.answers:
                self._send(*provider.answers[path])
            elif path == "/token":
                self._json(*provider.exchange(form, self.headers.get("Authorization", "")))
            else:
                about = {"email": form["email"], "name": form["name"]}
                self.send_response(302)
                self.send_header("Location", provider.authorize(self.path, form["sub"], **about))
                self.end_headers()

        def _json(self, status, body):
            self._send(status, json.dumps(body).encode())

        def _send(self, status, body, content_type="application/json"):
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    return Handler


@contextmanager
def running_provider():
    provider = Provider()
    thread = threading.Thread(target=provider.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield provider
    finally:
        provider.server.shutdown()
        provider.server.server_close()
        thread.join()


if __name__ == "__main__":
    Provider(int(sys.argv[1])).server.serve_forever()
