"""What to do with a secret: programs that run as they stand, and commands that put it where secrets belong."""

from dataclasses import dataclass, field
from urllib.parse import quote

from django.conf import settings
from django.template.loader import render_to_string
from django.utils.text import slugify

from apitokens.models import ApiToken, Kind

LANGUAGES = {"curl": "curl", "python": "Python", "javascript": "JavaScript", "go": "Go", "httpie": "HTTPie"}


@dataclass(frozen=True)
class Snippet:
    key: str
    label: str
    code: str


def snippets(token: ApiToken, plaintext: str) -> list[Snippet]:
    """With the real values. Ids and secrets are base62 and underscores: there is nothing to escape in any language."""
    context = {"origin": settings.ORIGIN, "client_id": token.client_id, "secret": plaintext}
    folder = "client_credentials" if token.kind == Kind.CLIENT_CREDENTIALS else "access_token"
    return [
        Snippet(key, label, render_to_string(f"portal/connect/{folder}/{key}.txt", context).strip())
        for key, label in LANGUAGES.items()
    ]


def key_snippets(token: ApiToken, key: dict[str, str]) -> list[Snippet]:
    """For a client that proves itself by a key: nothing in it is secret, and nothing has to be escaped."""
    context = {"origin": settings.ORIGIN, "client_id": token.client_id, "kid": key["kid"], "algorithm": key["alg"]}
    code = render_to_string("portal/connect/private_key_jwt/python.txt", context).strip()
    return [Snippet("python", LANGUAGES["python"], code)]


@dataclass(frozen=True)
class EnvFile:
    """A file of environment variables that the browser makes from the page: there is no address of ours that has it."""

    name: str
    text: str = field(repr=False)

    @property
    def url(self) -> str:
        return f"data:text/plain;charset=utf-8,{quote(self.text, safe='')}"


def env_file(token: ApiToken, plaintext: str) -> EnvFile:
    """Values need no quotes: they are base62, underscores and addresses. A name has no line breaks."""
    if token.kind == Kind.CLIENT_CREDENTIALS:
        variables = {
            "TOKEN_URL": f"{settings.ORIGIN}/oauth2/token",
            "CLIENT_ID": token.client_id,
            "CLIENT_SECRET": plaintext,
        }
    else:
        variables = {"ACCESS_TOKEN": plaintext}
    lines = [f"# {token.name} ({token.token_id})", *(f"{name}={value}" for name, value in variables.items())]
    return EnvFile(name=f"{slugify(token.name) or token.token_id}.env", text="\n".join([*lines, ""]))


def save_commands(token: ApiToken, plaintext: str) -> list[Snippet]:
    """The command reads the secret from its input, so that it is in no process list."""
    name = f"api-token-{token.token_id}"
    variable = "CLIENT_SECRET" if token.kind == Kind.CLIENT_CREDENTIALS else "ACCESS_TOKEN"
    return [
        Snippet("github", "GitHub Actions", f"printf %s '{plaintext}' | gh secret set {variable}"),
        Snippet("vault", "HashiCorp Vault", f"printf %s '{plaintext}' | vault kv put secret/{name} value=-"),
        Snippet(
            "kubernetes",
            "Kubernetes",
            f"printf %s '{plaintext}' | kubectl create secret generic {name.lower()} --from-file=value=/dev/stdin",
        ),
    ]
