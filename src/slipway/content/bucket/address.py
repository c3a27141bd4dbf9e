"""``s3://BUCKET/PREFIX?endpoint=…&region=…``: which bucket, and how it is talked to."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, urlsplit

from obstore.store import S3Store

from slipway.content.bucket.objects import Objects
from slipway.content.bucket.parts import PART
from slipway.content.bucket.store import BucketStore
from slipway.errors import Invalid

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_SETTLE = 5
_CLIENT: ClientConfig = {"connect_timeout": timedelta(seconds=5), "timeout": timedelta(seconds=30)}
_RETRIES: RetryConfig = {"max_retries": 0}  # we repeat whole requests, bodies included


def open_bucket(
    address: str, access_key: str = "", secret_key: str = "", *, rest: timedelta = timedelta(hours=1),
    part: int = PART,
) -> BucketStore:  # fmt: skip
    """No request is made yet. Without keys the usual ``AWS_…`` variables are used. Raises ``Invalid``.

    ``settle=SECONDS`` in the address: how late the server's listings may be.
    """
    parts = urlsplit(address)
    if parts.scheme != "s3" or not parts.netloc:
        raise Invalid(
            f"not a bucket: {address[:200]!r}", hint="s3://BUCKET/PREFIX?endpoint=https://…&region=…"
        )
    query = dict(parse_qsl(parts.query))
    if unknown := set(query) - {"endpoint", "region", "settle"}:
        raise Invalid(
            f"{sorted(unknown)[0]!r} means nothing in {address[:200]!r}",
            hint="endpoint, region and settle do",
        )
    try:
        settle = timedelta(seconds=float(query.get("settle", _SETTLE)))
    except ValueError as error:
        raise Invalid(f"not a number of seconds: {query['settle']!r}") from error
    config: S3Config = {"bucket": parts.netloc, "region": query.get("region", "us-east-1")}
    client = _CLIENT.copy()
    if "endpoint" in query:
        config["endpoint"] = query["endpoint"]
        client["allow_http"] = query["endpoint"].startswith("http://")
    if access_key and secret_key:
        config |= {"access_key_id": access_key, "secret_access_key": secret_key}
    prefix = parts.path.strip("/") or None
    store = S3Store(prefix=prefix, config=config, client_options=client, retry_config=_RETRIES)
    return BucketStore(Objects(store), settle=settle, rest=rest, part=part)
