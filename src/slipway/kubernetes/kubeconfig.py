"""A kubeconfig that somebody gave us: where a cluster is, and who we are there.

Kubeconfigs can name programs to run and files to read. On a server that would be its files and its rights, given to
whoever sends a kubeconfig, so only what stands in the text itself counts; the command line puts files in before it
sends one.
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from slipway.errors import Invalid, NotFound, Unsupported

MAX_BYTES = 1024 * 1024
_FILES = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "tokenFile": "token",
}
_TOKEN_HINT = (
    "use a service account's token: kubectl -n kube-system create serviceaccount slipway, bind it to the cluster "
    "role cluster-admin, and put what `kubectl create token` prints under the user's `token`"
)
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An API server and our credentials there. ``authority``, ``certificate`` and ``key`` are PEM texts, in memory.

    ``token_file`` is never from a kubeconfig: it is our own Pod's, which changes while we run.
    """

    server: str
    authority: str = ""
    certificate: str = ""
    key: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    username: str = ""
    password: str = field(default="", repr=False)
    verify: bool = True
    server_name: str = ""
    proxy: str = ""
    namespace: str = "default"
    token_file: str = ""

    @property
    def authorization(self) -> str:
        """The value of the header of that name; empty where the certificate says who we are."""
        if self.token:
            return f"Bearer {self.token}"
        if self.token_file:
            return f"Bearer {Path(self.token_file).read_text().strip()}"
        if self.username:
            return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()
        return ""

    def kubeconfig(self) -> str:
        """As the text of a kubeconfig with this one context, complete in itself."""
        cluster = {
            "server": self.server,
            "certificate-authority-data": _base64(self.authority),
            "tls-server-name": self.server_name,
            "proxy-url": self.proxy,
            "insecure-skip-tls-verify": not self.verify,
        }
        user = {
            "client-certificate-data": _base64(self.certificate),
            "client-key-data": _base64(self.key),
            "token": self.token,
            "username": self.username,
            "password": self.password,
        }
        context = {"cluster": "cluster", "user": "user", "namespace": self.namespace}
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "cluster",
            "contexts": [{"name": "cluster", "context": context}],
            "clusters": [
                {"name": "cluster", "cluster": {key: value for key, value in cluster.items() if value}}
            ],
            "users": [{"name": "user", "user": {key: value for key, value in user.items() if value}}],
        }
        return str(yaml.safe_dump(document, sort_keys=False))

    def ssl_context(self) -> ssl.SSLContext | None:
        """For TLS to the server; ``None`` without TLS. Raises ``Invalid`` for certificates that are none."""
        if not self.server.startswith("https:"):
            return None
        try:
            # Only what the kubeconfig says is trusted; the system's authorities where it says nothing, as kubectl does.
            context = ssl.create_default_context(cadata=self.authority or None)
            if not self.verify:
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            if self.certificate:
                _load_pair(context, self.certificate, self.key)
        except (ssl.SSLError, ValueError) as error:
            raise Invalid(
                f"the certificates in the kubeconfig cannot be used: {error}",
                hint="certificate-authority-data, client-certificate-data and client-key-data are base64 of PEM texts",
            ) from error
        return context


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """OpenSSL reads them from a file only: one in memory, so that the key never touches a disk."""
    file = os.memfd_create("slipway-client-certificate")
    try:
        with open(file, "wb", closefd=False) as out:
            out.write(f"{certificate}\n{key}\n".encode())
        # An encrypted key would ask for its passphrase on the terminal.
        context.load_cert_chain(f"/proc/self/fd/{file}", password=lambda: "")
    finally:
        os.close(file)


def read_kubeconfig(text: str, context: str | None = None) -> Endpoint:
    """What ``context`` (or ``current-context``) of the kubeconfig ``text`` says.

    Raises ``Invalid`` for a text that is no kubeconfig, ``NotFound`` for a context it does not have, ``Unsupported``
    for credentials that would have to be read from files or asked from a program.
    """
    if len(text) > MAX_BYTES:
        raise Invalid(f"a kubeconfig of {len(text)} bytes is too large; the limit is {MAX_BYTES}")
    try:
        document = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise Invalid(f"the kubeconfig is no YAML: {str(error)[:300]}") from error
    if not isinstance(document, dict):
        raise Invalid("the kubeconfig is no mapping", hint="give the file that kubectl uses, ~/.kube/config")
    name = context or _text(document, "current-context", "the kubeconfig")
    if not name:
        raise Invalid("the kubeconfig has no current-context", hint="name one with --context")
    chosen = _named(document, "contexts", "context", name)
    cluster = _named(document, "clusters", "cluster", _text(chosen, "cluster", f"the context {name}"))
    user_name = _text(chosen, "user", f"the context {name}")
    user = _named(document, "users", "user", user_name) if user_name else {}
    _refuse(cluster, f"the cluster of the context {name}")
    _refuse(user, f"the user {user_name}")
    return _endpoint(cluster, user, user_name, _text(chosen, "namespace", f"the context {name}") or "default")


def _endpoint(
    cluster: Mapping[str, Any], user: Mapping[str, Any], user_name: str, namespace: str
) -> Endpoint:
    who = f"the user {user_name}"
    found = Endpoint(
        server=_server(_text(cluster, "server", "the cluster")),
        authority=_pem(cluster, "certificate-authority-data"),
        certificate=_pem(user, "client-certificate-data"),
        key=_pem(user, "client-key-data"),
        token=_text(user, "token", who).strip(),
        username=_text(user, "username", who),
        password=_text(user, "password", who),
        verify=cluster.get("insecure-skip-tls-verify") is not True,
        server_name=_text(cluster, "tls-server-name", "the cluster"),
        proxy=_text(cluster, "proxy-url", "the cluster"),
        namespace=namespace,
    )
    if bool(found.certificate) != bool(found.key):
        raise Invalid(f"{who} has only one of client-certificate-data and client-key-data; both are needed")
    if any(character in found.token for character in "\r\n\0"):
        raise Invalid(f"the token of {who} has line breaks in it")
    if found.proxy and urlsplit(found.proxy).scheme not in ("http", "https"):
        raise Unsupported(f"proxy-url {found.proxy!r} is neither http nor https")
    plain = found.server.startswith("http:") and urlsplit(found.server).hostname not in _LOOPBACK
    if plain and (found.token or found.username):
        raise Invalid(
            f"the credentials for {found.server} would travel unencrypted", hint="use an https address"
        )
    return found


def _server(address: str) -> str:
    parts = urlsplit(address)
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise Invalid(
            f"the cluster's server {address!r} is no address", hint="for example https://10.0.0.1:6443"
        )
    if parts.username or parts.password or parts.query or parts.fragment:
        raise Invalid(f"the cluster's server {parts.hostname} has more than an address in it")
    return address.rstrip("/")


def _refuse(section: Mapping[str, Any], where: str) -> None:
    """What would run a program, read a file, or be silently left out though it changes who we are."""
    if section.get("exec") or section.get("auth-provider"):
        raise Unsupported(
            f"{where} gets credentials from a program on the user's machine, which a server does not run",
            hint=_TOKEN_HINT,
        )
    for key, instead in _FILES.items():
        # As kubectl: what is given in the text wins over the file.
        if section.get(key) and not section.get(instead):
            raise Unsupported(
                f"{where} names a file ({key}), and a server does not read files for others",
                hint=f"put its content under {instead}, as `kubectl config view --flatten --minify` does",
            )
    for key in ("as", "as-uid", "as-groups", "as-user-extra"):
        if section.get(key):
            raise Unsupported(f"{where} acts as somebody else ({key}), which is not supported")


def _named(document: Mapping[str, Any], plural: str, singular: str, name: str) -> Mapping[str, Any]:
    entries = document.get(plural)
    entries = [entry for entry in entries if isinstance(entry, dict)] if isinstance(entries, list) else []
    for entry in entries:
        if entry.get("name") == name:
            found = entry.get(singular) or {}
            if not isinstance(found, dict):
                raise Invalid(f"the {singular} {name} in the kubeconfig is no mapping")
            return found
    known = ", ".join(sorted(str(entry.get("name"))[:100] for entry in entries[:20])) or "none"
    raise NotFound(f"the kubeconfig has no {singular} {name!r}", hint=f"it has: {known}")


def _text(section: Mapping[str, Any], key: str, where: str) -> str:
    value = section.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(f"{key} of {where} is no text in the kubeconfig")
    return value


def _pem(section: Mapping[str, Any], key: str) -> str:
    text = _text(section, key, "an entry")
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError) as error:
        raise Invalid(f"{key} in the kubeconfig is not base64 of a PEM text") from error
