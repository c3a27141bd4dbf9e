"""What the TCP listener shows as its certificate, and its renewal while the server runs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
import ssl
from pathlib import Path

from slipway.app.local_ca import LocalAuthority
from slipway.app.settings import Settings
from slipway.errors import Invalid

log = logging.getLogger(__name__)
_LOOK_SECONDS = 3600.0


class ServerTls:
    """``context`` is what connections are accepted with; a certificate that changed is used by the next one."""

    def __init__(self, settings: Settings) -> None:
        """Raises ``Invalid`` for a certificate or an authority that cannot be read, and for a key that does not fit."""
        self._certificate, self._key = settings["tls.certificate"], settings["tls.key"]
        self._authority: LocalAuthority | None = None
        if bool(self._certificate) != bool(self._key):
            raise Invalid("tls.certificate and tls.key go together", hint="both are paths of PEM files")
        if settings["tls.ca"]:
            _check_authority(settings)
        if not self._certificate:
            self._authority = LocalAuthority(authority_directory(settings))
        self._names = names_of(settings)
        self._loaded: tuple[object, ...] = ()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self.refresh()

    def refresh(self) -> None:
        """Renew what is ours to renew, and load what is new. Raises ``Invalid``."""
        certificate, key = self._certificate, self._key
        if self._authority is not None:
            path, made = self._authority.server_certificate(self._names)
            certificate = key = str(path)
            if made:
                log.info("made a certificate for %s", ", ".join(self._names))
        try:
            state = tuple(
                (Path(path).stat().st_mtime_ns, Path(path).stat().st_ino) for path in (certificate, key)
            )
            if state == self._loaded:
                return
            # Tried elsewhere first: of a pair that does not fit, the context would keep one half.
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
            self.context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise Invalid(
                f"the certificate {certificate} with the key {key} cannot be used: {error}",
                hint="tls.certificate is a PEM file with the server's certificate first, tls.key its key",
            ) from error
        self._loaded = state

    async def run_forever(self) -> None:
        """A certificate is renewed, and one that somebody else renewed is found, without a restart."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                self.refresh()  # not in a thread: connections are accepted with the context meanwhile
            except Exception:
                log.exception("the certificate could not be renewed; the old one is still used")


def tls_of(settings: Settings) -> ServerTls | None:
    """``None`` where the listener speaks plain HTTP."""
    return ServerTls(settings) if settings.is_secure else None


def authority_directory(settings: Settings) -> Path:
    return settings.data / "keys" / "ca"


def authority_certificate(settings: Settings) -> Path | None:
    """What clients have to trust, where the authority is our own or the site's."""
    if settings["tls.certificate"]:
        return Path(settings["tls.ca"]) if settings["tls.ca"] else None
    if settings["tls.local_ca"]:
        return LocalAuthority(authority_directory(settings)).certificate
    return None


def _check_authority(settings: Settings) -> None:
    if not settings["tls.certificate"]:
        raise Invalid("tls.ca is without tls.certificate", hint="it is the authority that signed that one")
    try:
        ssl.create_default_context(cafile=settings["tls.ca"])
    except (OSError, ssl.SSLError) as error:
        raise Invalid(
            f"tls.ca = {settings['tls.ca']} cannot be used: {error}",
            hint="it is a PEM file with a certificate",
        ) from error


def names_of(settings: Settings) -> tuple[str, ...]:
    """Under which names clients reach the listener."""
    host = _host(settings["listen"])
    try:
        everywhere = ipaddress.ip_address(host).is_unspecified
    except ValueError:
        everywhere = False
    hosts = ("127.0.0.1", "::1") if everywhere else (host,)
    return (*hosts, "localhost", socket.gethostname(), *settings["tls.names"])


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches ``listen``."""
    try:
        return ipaddress.ip_address(_host(listen)).is_loopback
    except ValueError:
        return _host(listen) == "localhost"


def _host(listen: str) -> str:
    return listen.rpartition(":")[0].strip("[]")
