"""The verbs of the platform API about what images may be: policies, trash, sites, webhooks, audit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import quote, urlencode

from slipway import wire
from slipway.client.policies import policy, set_policy
from slipway.client.transport import API, Transport


class RegistryVerbs:
    """See ``Client.registry``."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def _list(self, path: str, method: str = "GET") -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._transport.call(method, f"{API}{path}")
        return found

    def policy(self, project: str) -> wire.RegistryPolicy:
        return policy(self._transport, project, "registry-policy", wire.RegistryPolicy)

    def set_policy(self, project: str, wanted: wire.RegistryPolicy) -> wire.RegistryPolicy:
        return set_policy(self._transport, project, "registry-policy", wanted)

    def upstream(self, project: str) -> wire.Upstream:
        found = self._transport.call("GET", f"{API}/projects/{quote(project)}/upstream")
        return wire.Upstream.model_validate(found)

    def set_upstream(self, project: str, wanted: wire.NewUpstream) -> wire.Upstream:
        path = f"{API}/projects/{quote(project)}/upstream"
        return wire.Upstream.model_validate(self._transport.call("PUT", path, wanted.model_dump()))

    def retention(self, project: str, *, apply: bool) -> list[wire.Verdict]:
        """Every tag with its verdict; with ``apply`` those that were thrown away."""
        found = self._list(f"/projects/{quote(project)}/retention", "POST" if apply else "GET")
        return [wire.Verdict.model_validate(item) for item in found]

    def trash(self, project: str) -> list[wire.Thrown]:
        return [wire.Thrown.model_validate(item) for item in self._list(f"/projects/{quote(project)}/trash")]

    def restore(self, reference: str) -> None:
        self._transport.call("POST", f"{API}/images/restore?{urlencode({'reference': reference})}")

    def audit(self, wanted: wire.AuditFilter) -> list[wire.AuditEvent]:
        return [wire.AuditEvent.model_validate(item) for item in self._list(f"/audit?{_query(wanted)}")]

    def audit_export(self, wanted: wire.AuditFilter) -> Iterator[bytes]:
        return self._transport.pieces(f"{API}/audit/export?{_query(wanted)}")

    # Findings

    def findings(self, reference: str) -> wire.Findings:
        found = self._transport.call("GET", f"{API}/images/findings?{urlencode({'reference': reference})}")
        return wire.Findings.model_validate(found)

    def advisories(self) -> list[wire.AdvisorySource]:
        return [wire.AdvisorySource.model_validate(item) for item in self._list("/advisories")]

    def load_advisories(self, source: str, file: IO[bytes]) -> wire.AdvisoriesLoaded:
        found = self._transport.call("PUT", f"{API}/advisories/{quote(source, safe='')}", file)
        return wire.AdvisoriesLoaded.model_validate(found)

    def remove_advisories(self, source: str) -> None:
        self._transport.call("DELETE", f"{API}/advisories/{quote(source, safe='')}")

    # Sites

    def sites(self) -> list[wire.Site]:
        return [wire.Site.model_validate(item) for item in self._list("/sites")]

    def site(self, name: str) -> wire.Site:
        return wire.Site.model_validate(self._transport.call("GET", f"{API}/sites/{quote(name)}"))

    def add_site(self, site: wire.NewSite) -> wire.Site:
        return wire.Site.model_validate(self._transport.call("POST", f"{API}/sites", site.model_dump()))

    def sync_site(self, name: str) -> wire.Site:
        return wire.Site.model_validate(self._transport.call("POST", f"{API}/sites/{quote(name)}/sync"))

    def remove_site(self, name: str) -> None:
        self._transport.call("DELETE", f"{API}/sites/{quote(name)}")

    def conflicts(self) -> list[wire.SiteConflict]:
        return [wire.SiteConflict.model_validate(item) for item in self._list("/site-conflicts")]

    # Webhooks

    def webhooks(self, project: str) -> list[wire.Webhook]:
        found = self._list(f"/projects/{quote(project)}/webhooks")
        return [wire.Webhook.model_validate(item) for item in found]

    def add_webhook(self, project: str, hook: wire.NewWebhook) -> wire.Webhook:
        path = f"{API}/projects/{quote(project)}/webhooks"
        return wire.Webhook.model_validate(self._transport.call("POST", path, hook.model_dump()))

    def remove_webhook(self, project: str, number: int) -> None:
        self._transport.call("DELETE", f"{API}/projects/{quote(project)}/webhooks/{number}")

    def webhook_deliveries(self, project: str, number: int) -> list[wire.WebhookDelivery]:
        found = self._list(f"/projects/{quote(project)}/webhooks/{number}/deliveries")
        return [wire.WebhookDelivery.model_validate(item) for item in found]


def _query(wanted: wire.AuditFilter) -> str:
    given = wanted.model_dump(mode="json", exclude_defaults=True)
    return urlencode(given)
