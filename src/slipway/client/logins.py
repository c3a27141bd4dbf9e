"""Logging in, and tokens."""

from __future__ import annotations

from urllib.parse import quote, urlencode

from slipway import wire
from slipway.client.transport import API, Transport


class Logins:
    """What a client can ask about who it is."""

    transport: Transport

    def authority(self) -> wire.Authority:
        return wire.Authority.model_validate(self.transport.call("GET", f"{API}/tls/ca"))

    def login(self, name: str, password: str) -> wire.Token:
        body = {"name": name, "password": password}
        return wire.Token.model_validate(self.transport.call("POST", f"{API}/login", body))

    def start_device_login(self) -> wire.DeviceLogin:
        return wire.DeviceLogin.model_validate(self.transport.call("POST", f"{API}/oidc/device"))

    def poll_device_login(self, device_code: str) -> wire.DeviceAnswer:
        body = {"device_code": device_code}
        return wire.DeviceAnswer.model_validate(self.transport.call("POST", f"{API}/oidc/device/poll", body))

    def me(self) -> wire.Me:
        return wire.Me.model_validate(self.transport.call("GET", f"{API}/me"))

    def personal_tokens(self, user: str = "") -> list[wire.PersonalToken]:
        found = self.transport.call("GET", f"{API}/tokens{_of(user)}")
        return [wire.PersonalToken.model_validate(item) for item in found]

    def create_personal_token(self, name: str, days: int | None) -> wire.PersonalTokenSecret:
        body = {"name": name, "days": days}
        return wire.PersonalTokenSecret.model_validate(self.transport.call("POST", f"{API}/tokens", body))

    def delete_personal_token(self, name: str, user: str = "") -> None:
        self.transport.call("DELETE", f"{API}/tokens/{quote(name, safe='')}{_of(user)}")


def _of(user: str) -> str:
    return f"?{urlencode({'user': user})}" if user else ""
