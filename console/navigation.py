from django.utils.translation import gettext_lazy as _

from apitokens.pages.navigation import TabTo

CONSOLE_TABS = (
    TabTo("environments:read", _("Overview"), "overview", "layout-dashboard"),
    TabTo("tenants:read", _("Tenants"), "tenants", "building-2"),
    TabTo("apitokens:read", _("All tokens"), "all-tokens", "key-round"),
    TabTo("environment-tokens:read", _("Backend tokens"), "tokens", "server"),
    TabTo("roles:read", _("Roles"), "roles", "users-round"),
    TabTo("token-types:read", _("Token types"), "token-types", "sliders-horizontal"),
    TabTo("environments:read", _("Signing keys"), "keys", "signature"),
    TabTo("environments:read", _("People"), "people", "contact-round"),
    TabTo("usage:read", _("Usage"), "usage", "chart-column"),
    TabTo("audit:read", _("Audit"), "audit", "scroll-text"),
    TabTo("environments:read", _("Settings"), "settings", "settings"),
)
