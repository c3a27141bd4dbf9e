"""The provider that the settings name."""

from __future__ import annotations

from datetime import timedelta

from slipway.access import Access
from slipway.access.oidc import OidcConfig, OidcLogins, Provider, parse_group_roles
from slipway.app.settings import Settings
from slipway.errors import Invalid
from slipway.state import Database


def oidc_of(settings: Settings, access: Access, database: Database) -> OidcLogins | None:
    """``None`` where no provider is set. Raises ``Invalid``."""
    if not settings["oidc.issuer"]:
        return None
    try:
        group_roles = parse_group_roles(settings["oidc.group_roles"])
    except ValueError as error:
        raise Invalid(f"oidc.group_roles: {error}") from error
    config = OidcConfig(
        settings["oidc.issuer"],
        settings["oidc.client_id"],
        settings["oidc.client_secret"],
        settings["oidc.username_claim"],
        settings["oidc.groups_claim"],
        settings["oidc.admin_group"],
        group_roles,
        settings["oidc.scopes"],
        settings["oidc.ca"],
        timedelta(hours=settings["oidc.login_hours"]),
        timedelta(days=settings["oidc.token_days"]),
    )
    return OidcLogins(access, database, Provider(config), settings.keys)
