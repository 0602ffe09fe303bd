"""The one settings file. Everything that varies comes from an environment variable; secrets also from key files.

Nothing insecure starts: without its keys, or with a plain-http origin that is not this very machine, it refuses.
"""

from ipaddress import ip_network
from pathlib import Path
from urllib.parse import urlsplit

import environ
from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

from config import keyfiles

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent
VAR_DIR = Path(env.str("VAR_DIR", default=str(BASE_DIR / "var")))
DEBUG = env.bool("DEBUG", default=False)

# Where people and machines reach this installation. Issuers and links come from here, never from a request's headers.
ORIGIN = env.str("ORIGIN", default="http://localhost:8000").rstrip("/")
_origin = urlsplit(ORIGIN)
_is_local = _origin.hostname in {"localhost", "127.0.0.1", "::1"}
_is_https = _origin.scheme == "https"
if _origin.scheme not in {"http", "https"} or not _origin.hostname or _origin.path or _origin.query:
    raise ImproperlyConfigured(f"ORIGIN must read like https://tokens.example.com, not {ORIGIN!r}.")
if not _is_https and not _is_local:
    raise ImproperlyConfigured(f"ORIGIN {ORIGIN} must be https: tokens would cross the network in clear.")

try:
    SECRET_KEY = keyfiles.read("secret-key", "SECRET_KEY", VAR_DIR)
    PEPPERS = keyfiles.parse_peppers(keyfiles.read("peppers", "PEPPERS", VAR_DIR))
    KEY_ENCRYPTION_KEYS = keyfiles.parse_fernet_keys(
        keyfiles.read("key-encryption-keys", "KEY_ENCRYPTION_KEYS", VAR_DIR)
    )
except (keyfiles.KeyMissing, keyfiles.KeyUnusable) as error:
    raise ImproperlyConfigured(str(error)) from error
if len(SECRET_KEY) < 50:
    raise ImproperlyConfigured("SECRET_KEY needs at least 50 characters.")
if DEBUG and not _is_local:
    raise ImproperlyConfigured("DEBUG shows everything to everybody: it is for this machine alone.")
# Without it /metrics is absent.
try:
    METRICS_TOKEN = keyfiles.read("metrics-token", "METRICS_TOKEN", VAR_DIR)
except keyfiles.KeyMissing:
    METRICS_TOKEN = ""

# Seconds for which whoever verifies may keep an environment's JWKS; a new signing key waits for twice as long.
JWKS_MAX_AGE = env.int("JWKS_MAX_AGE", default=300)
if not 1 <= JWKS_MAX_AGE <= 300:
    raise ImproperlyConfigured("JWKS_MAX_AGE is 1 to 300 seconds: a compromised key is believed for that long.")

ALLOWED_HOSTS = [_origin.hostname, *env.list("ALLOWED_HOSTS", default=[])]
if _is_local:
    ALLOWED_HOSTS += ["localhost", "127.0.0.1", "[::1]"]
# Django's admin, for an operator in an emergency; otherwise /admin/ does not exist.
ADMIN = env.bool("ADMIN", default=False)
# How many proxies in front of us append to X-Forwarded-For; 0 means that the header is not believed at all.
TRUSTED_PROXIES = env.int("TRUSTED_PROXIES", default=0)
if TRUSTED_PROXIES < 0:
    raise ImproperlyConfigured("TRUSTED_PROXIES counts proxies: 0 or more.")
ALLAUTH_TRUSTED_PROXY_COUNT = TRUSTED_PROXIES
# Networks that what tenants configure may lead into although they are not public; in them plain http will do.
try:
    OUTBOUND_NETWORKS = [ip_network(each.strip()) for each in env.list("OUTBOUND_NETWORKS", default=[])]
except ValueError as error:
    raise ImproperlyConfigured(f"OUTBOUND_NETWORKS lists networks such as 10.1.0.0/16: {error}.") from error
if TRUSTED_PROXIES:
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

INSTALLED_APPS = [
    "config.apps.ConfigConfig",
    "console.apps.ConsoleConfig",
    "apitokens.apps.ApiTokensConfig",
    "tenants.apps.TenantsConfig",
    "accounts.apps.AccountsConfig",
    "audit.apps.AuditConfig",
    # Without its own list of what is in it, and mounted only where ADMIN says so: see config/rescue.py.
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "oauth2_provider",
    "rest_framework",
    "drf_spectacular",
    "csp",
    "lucide",
]

MIDDLEWARE = [
    "config.middleware.request_log",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "config.middleware.CompressedPages",
    "csp.middleware.CSPMiddleware",
    "config.embedding.embedded",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "apitokens.pages.embedded.Door",
    "accounts.middleware.visited",
    "config.middleware.language",
    "config.middleware.body_limit",
    "config.middleware.time_zone",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "config.middleware.Refusals",
]

ROOT_URLCONF = "config.urls"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["apitokens.templatetags.moments"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "apitokens.pages.navigation.navigation",
                "apitokens.pages.appearance.appearance",
            ],
        },
    }
]

if DATABASE_URL := env.str("DATABASE_URL", default=""):
    DATABASES = {"default": environ.Env.db_url_config(DATABASE_URL)}
    # A database that does not answer must become a 503 within five seconds, not a hung request; a request may wait for
    # both, one after the other: first on a connection that was kept, then for a new one.
    DATABASES["default"]["OPTIONS"] = {
        "connect_timeout": 2,
        "tcp_user_timeout": 2000,
        # Conditions with many branches look dear to the planner: it would compile for seconds what runs for few ms.
        "options": "-c lock_timeout=4s -c jit=off",
        **DATABASES["default"].get("OPTIONS", {}),
    }
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
else:
    DATABASES = {
        "default": {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": VAR_DIR / "db.sqlite3",
            "OPTIONS": {
                "transaction_mode": "IMMEDIATE",
                "timeout": 4,
                "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=NORMAL;",
            },
        }
    }
DATABASES["default"]["CONN_MAX_AGE"] = None
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        # What does not fit pushes out what is there: nobody is to make room for more guesses by making other ones.
        "OPTIONS": {"MAX_ENTRIES": 100_000},
    }
}

AUTH_USER_MODEL = "accounts.User"
# An e-mail is unique among local sign-ins only, by a constraint with a condition, which the check does not see (R12).
SILENCED_SYSTEM_CHECKS = ["auth.W004"]
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "portal:home"
ACCOUNT_ADAPTER = "accounts.adapter.AccountAdapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_FORMS = {"reset_password": "accounts.forms.LocalResetPasswordForm"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = False
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
# Seconds for which somebody who has just confirmed who they are may change how they sign in.
ACCOUNT_REAUTHENTICATION_TIMEOUT = 15 * 60
MFA_ADAPTER = "accounts.adapter.MFAAdapter"
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_FORMS = {
    "activate_totp": "accounts.forms.SealedTOTPForm",
    "add_webauthn": "accounts.forms.PasskeyForm",
    "login_webauthn": "accounts.forms.LoginByPasskeyForm",
    "authenticate_webauthn": "accounts.forms.SecondPasskeyForm",
    "reauthenticate_webauthn": "accounts.forms.ConfirmByPasskeyForm",
    "edit_webauthn": "accounts.forms.RenameForm",
    "authenticate": "accounts.forms.AuthenticateForm",
    "reauthenticate": "accounts.forms.ReauthenticateForm",
}
MFA_PASSKEY_LOGIN_ENABLED = True
# A passkey stands for two factors: the device, and whoever unlocks it.
MFA_WEBAUTHN_USER_VERIFICATION = "required"
MFA_RECOVERY_CODES_SHOW_ONCE = True
# The code before and the one after are right, too: clocks differ.
MFA_TOTP_TOLERANCE = 1
# An account begins with an invitation to its address; nothing is left to verify.
MFA_ALLOW_UNVERIFIED_EMAIL = True

SESSION_ENGINE = "accounts.sessions"
SESSION_COOKIE_AGE = 24 * 3600
SESSION_EXPIRE_AT_BROWSER_CLOSE = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _is_https
CSRF_COOKIE_HTTPONLY = True
# A proxy that ends TLS may pass the request on as http; what the browser saw is this origin.
CSRF_TRUSTED_ORIGINS = [ORIGIN]
if _is_https:
    # The browser itself holds these cookies to this host, to https and to the whole path.
    SESSION_COOKIE_NAME, CSRF_COOKIE_NAME = "__Host-session", "__Host-csrf"
    SECURE_SSL_REDIRECT = env.bool("SSL_REDIRECT", default=True)
    SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$"]
    SECURE_HSTS_SECONDS = 365 * 24 * 3600
    SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = env.bool("HSTS_SUBDOMAINS", default=True)
SECURE_REFERRER_POLICY = "same-origin"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "base-uri": [NONE],
        "frame-ancestors": [NONE],
    }
}

# Forms and machine requests are small, and so is what may be uploaded: a logo.
BODY_LIMIT = DATA_UPLOAD_MAX_MEMORY_SIZE = 64 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 500

LANGUAGE_CODE = "en-gb"
LANGUAGES = [("en-gb", "English"), ("de", "Deutsch"), ("ar", "العربية")]
LOCALE_PATHS = [BASE_DIR / "locale"]
# How each language writes days and times.
FORMAT_MODULE_PATH = ["config.formats"]
LANGUAGE_COOKIE_NAME = "language"
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR_DIR / "static"
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.InMemoryStorage"},
    "staticfiles": {
        "BACKEND": env.str("STATICFILES_STORAGE", default="whitenoise.storage.CompressedManifestStaticFilesStorage")
    },
}

# A mail server that does not answer must not hold a request for long.
EMAIL_TIMEOUT = 10
# Without it invitations are shown to who sends them, who hands the link on.
SENDS_MAIL = bool(env.str("EMAIL_URL", default=""))
EMAIL_CONFIG = env.email_url("EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", default=f"Tallystick <no-reply@{_origin.hostname}>")

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["apitokens.api.authentication.ApiAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["apitokens.api.parsers.BoundedJSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "config.api.problem_response",
    "UNAUTHENTICATED_USER": None,
    "UNAUTHENTICATED_TOKEN": None,
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Tallystick API",
    "DESCRIPTION": "API tokens of a multi-tenant product: make, list, change and end them.",
    "VERSION": "1",
    "OAS_VERSION": "3.1.1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_AUTHENTICATION": [],
    "SERVE_PERMISSIONS": ["rest_framework.permissions.AllowAny"],
    "SCHEMA_PATH_PREFIX": "/api/v1",
    "POSTPROCESSING_HOOKS": [
        "drf_spectacular.hooks.postprocess_schema_enums",
        "apitokens.api.schema.add_problems",
    ],
    "ENUM_NAME_OVERRIDES": {
        "OwnerEnum": "apitokens.models.Owner",
        "KindEnum": "apitokens.models.Kind",
        "AlgorithmEnum": "tenants.models.Environment.Algorithm",
    },
}
# Our token endpoint derives its validator from this library; none of its addresses is mounted, its tables stay empty.
OAUTH2_PROVIDER = {
    "OAUTH2_VALIDATOR_CLASS": "apitokens.oauth.validator.ClientValidator",
    "SCOPES": {},
    "DEFAULT_SCOPES": [],
    "PKCE_REQUIRED": True,
    "OIDC_ENABLED": False,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 24 * 3600,
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["https"],
    **{
        f"COMPLIANT_BCP_RFC9700_{gate}": True
        for gate in [
            "IMPLICIT_GRANT",
            "PASSWORD_GRANT",
            "PKCE_METHOD",
            "PKCE_REQUIRED",
            "ACCESS_TOKEN_TRANSPORT",
            "AUTHZ_RESPONSE_ISS",
            "TOKEN_STORAGE",
            "REFRESH_TOKEN",
            "REDIRECT_URI_SCHEME",
            "REDIRECT_URI_MATCHING",
        ]
    },
}
# Signing goes through our key ring alone; without a key here the library cannot sign by accident.
SIMPLE_JWT = {"SIGNING_KEY": None, "ALGORITHM": "ES256", "TOKEN_TYPE_CLAIM": None}

LOG_LEVEL = env.str("LOG_LEVEL", default="INFO")
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "config.logs.formatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "json"}},
    "root": {"handlers": ["console"], "level": LOG_LEVEL},
    "loggers": {
        # At DEBUG it writes the token it has just issued.
        "oauthlib": {"level": "WARNING"},
        "oauth2_provider": {"level": "WARNING"},
        "django.server": {"handlers": [], "propagate": True},
    },
}
