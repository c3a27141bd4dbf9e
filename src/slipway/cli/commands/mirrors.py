"""Telling a node's container runtime where else images are to be had."""

from __future__ import annotations

import json
import os
from pathlib import Path
from urllib.parse import urlsplit

import click

from slipway.base.files import atomic_write
from slipway.cli.session import Session, with_session
from slipway.errors import Denied, Invalid, Unavailable

_CONTAINERD = "/etc/containerd/certs.d"
_PODMAN = "/etc/containers/registries.conf.d"


def hosts_toml(registry: str, mirrors: list[str], ca: str) -> str:
    """containerd's ``hosts.toml`` for ``registry``: its mirrors in their order, then itself."""
    lines = [f"server = {json.dumps(f'https://{registry}')}"]
    for mirror in mirrors:
        parts = urlsplit(mirror)
        path = parts.path.strip("/")
        address = f"{parts.scheme}://{parts.netloc}" + (f"/v2/{path}" if path else "")
        lines += ["", f"[host.{json.dumps(address)}]", '  capabilities = ["pull", "resolve"]']
        lines += ["  override_path = true"] if path else []
        lines += [f"  ca = {json.dumps(ca)}"] if ca and parts.scheme == "https" else []
    return "\n".join(lines) + "\n"


def registries_conf(registry: str, mirrors: list[str]) -> str:
    """The part of ``registries.conf`` (podman, buildah, skopeo, CRI-O) for ``registry``."""
    lines = ["[[registry]]", f"prefix = {json.dumps(registry)}", f"location = {json.dumps(registry)}"]
    for mirror in mirrors:
        parts = urlsplit(mirror)
        location = "/".join(part for part in (parts.netloc, parts.path.strip("/")) if part)
        lines += ["", "[[registry.mirror]]", f"location = {json.dumps(location)}"]
        lines += ["insecure = true"] if parts.scheme == "http" else []
    return "\n".join(lines) + "\n"


@click.command()
@click.argument("registry")
@click.argument("mirrors", nargs=-1, required=True, metavar="URL...")
@click.option(
    "--runtime", type=click.Choice(["containerd", "podman"]), default="containerd", show_default=True
)
@click.option("--directory", default="", help=f"Instead of {_CONTAINERD} or {_PODMAN}.")
@click.option("--ca", default="", help="Certificate of the mirrors' own authority (containerd).")
@click.option("--dry-run", is_flag=True, help="Print the file instead of writing it.")
@with_session
def mirrors(
    session: Session,
    registry: str,
    mirrors: tuple[str, ...],
    runtime: str,
    directory: str,
    ca: str,
    dry_run: bool,
) -> None:
    """Let this node's runtime ask the mirrors at URL... first for images of REGISTRY, in this order.

    \b
    A project that stands for a registry:  slipway mirrors docker.io https://slipway.example.org/hub
    Several sites with the same images:    slipway mirrors images.example.org https://a.example.org https://b.example.org

    URL may name a project behind the host. Nothing has to be restarted; run it again to change what is written.
    """
    found = [_address(text) for text in mirrors]
    if not registry or "/" in registry or any(char.isspace() for char in registry):
        raise Invalid(
            f"not a registry's host: {registry[:100]!r}", hint="e.g. docker.io or registry.example.org:5000"
        )
    base = Path(directory or (_CONTAINERD if runtime == "containerd" else _PODMAN))
    if runtime == "containerd":
        path, text = base / registry / "hosts.toml", hosts_toml(registry, found, ca)
    else:
        path, text = base / f"slipway-{registry.replace(':', '-')}.conf", registries_conf(registry, found)
    if dry_run:
        click.echo(text, nl=False)
        return
    try:
        os.makedirs(path.parent, exist_ok=True)
        atomic_write(path, text.encode(), 0o644)
    except PermissionError as error:
        raise Denied(
            f"{path} cannot be written: {error.strerror}", hint="run it as root, or use --directory"
        ) from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error
    session.said(f"{runtime} asks {', '.join(found)} for images of {registry} ({path})", path=str(path))


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.username or parts.query:
        raise Invalid(f"not a mirror's address: {text[:200]!r}", hint="e.g. https://slipway.example.org/hub")
    return text.rstrip("/")


COMMANDS = [mirrors]
