"""Which words name something elsewhere. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from slipway.errors import Invalid

_SCP = re.compile(r"(?P<user>[A-Za-z0-9_.-]+)@(?P<host>[A-Za-z0-9.-]+):(?P<path>[^#?\s]+)")
_GITHUB = re.compile(r"github\.com/[^/\s]+/[^/\s]+")
_SCHEMES = ("http", "https", "git", "ssh")
_REF = re.compile(r"[A-Za-z0-9_./@{}^~+-]{1,255}")
_CHECKSUM = re.compile(r"sha256:[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")


@dataclass(frozen=True, slots=True)
class HttpSource:
    """One file. ``name`` is what it is called; ``checksum`` is ``sha256:…`` or empty."""

    url: str
    name: str
    checksum: str = ""


@dataclass(frozen=True, slots=True)
class GitSource:
    """A tree of a repository: ``ref`` is a branch, a tag or a commit, empty for the default branch.

    ``checksum`` is the commit it has to be, or the beginning of it.
    """

    url: str
    ref: str = ""
    subdir: str = ""
    checksum: str = ""
    keep_git_dir: bool = False


RemoteSource = HttpSource | GitSource


def parse_remote(word: str, *, checksum: str = "", keep_git_dir: bool = False) -> RemoteSource | None:
    """What ``word`` names, or ``None`` if it is a path. Raises ``Invalid`` for a malformed address.

    A repository is known by its scheme (``git://``, ``ssh://``), by ``git@host:path``, by an end in ``.git`` or by a
    fragment ``#ref:subdir``; ``github.com/owner/name`` without a scheme is one, too.
    """
    scp = _SCP.match(word)
    if scp is not None and "://" not in word:
        url = f"ssh://{scp['user']}@{scp['host']}/{scp['path'].lstrip('/')}"
        return _git(url, word[scp.end() :], checksum, keep_git_dir)
    if _GITHUB.match(word):
        word = f"https://{word}"
    scheme = word.partition("://")[0].lower()
    if "://" not in word or scheme not in _SCHEMES:
        return None
    address, hash_, fragment = word.partition("#")
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise Invalid(f"not an address: {word[:200]!r}: {error}") from error
    if not host:
        raise Invalid(f"the address {word[:200]!r} has no host")
    if parts.password:
        raise Invalid("an address must not hold a password", hint="it would be in the image's history")
    if scheme in ("git", "ssh") or parts.path.endswith(".git") or _is_github(host, parts.path):
        return _git(address, hash_ + fragment, checksum, keep_git_dir)
    if checksum and not _CHECKSUM.fullmatch(checksum):
        raise Invalid(f"not a checksum: {checksum[:80]!r}", hint="sha256:… with 64 hexadecimal digits")
    name = unquote(parts.path.rpartition("/")[2])
    return HttpSource(address, "" if name in (".", "..") or "/" in name or "\0" in name else name, checksum)


def _is_github(host: str, path: str) -> bool:
    return host == "github.com" and len([part for part in path.split("/") if part]) == 2


def _git(address: str, rest: str, checksum: str, keep_git_dir: bool) -> GitSource:
    url, _, query = address.partition("?")
    ref, _, subdir = rest.removeprefix("#").partition(":")
    for item in filter(None, query.split("&")):
        key, _, value = item.partition("=")
        value = unquote(value)
        if key in ("ref", "branch", "tag"):
            ref = ref or value
        elif key == "subdir":
            subdir = subdir or value
        elif key in ("checksum", "commit"):
            checksum = checksum or value
        else:
            raise Invalid(f"a repository's address has no {key[:40]!r}", hint="ref, subdir or checksum")
    if ref and (not _REF.fullmatch(ref) or ref.startswith("-") or ".." in ref):
        raise Invalid(f"not a branch, tag or commit: {ref[:80]!r}")
    if checksum and not _COMMIT.fullmatch(checksum):
        raise Invalid(f"not a commit: {checksum[:80]!r}")
    return GitSource(url, ref, subdir.strip("/"), checksum, keep_git_dir)
