"""The engine of many machines: an app is Deployments, StatefulSets, Jobs, Services and what belongs to them.

Kubernetes starts, restarts and rolls; this engine says what is to be there, in which order, and watches whether it
becomes healthy. ``render`` makes manifests of a release, without asking anybody. ``rollout`` applies them server-side,
each service when those it depends on are up (``waiting``, ``health``), and applies those of the release before again
when one does not get healthy. ``record`` is who may change an app now; ``writing`` writes only what nobody else has
written since, and nothing that others made (``ownership``); ``replacing`` is for what never changes. ``observed`` and
``objects`` tell drift: what of the app is there, next to what is wanted (``rendered``); ``mirror`` watches all of it,
so that looking at every app (``soundness``) asks nobody. ``pods`` has its instances and their logs, and runs commands
in them. ``leavings`` is what a project that is removed must not leave.

What there is in the cluster: a namespace a project (``slipway-PROJECT``; an app that shares a service's name with
another one has its own, ``slipway--PROJECT-APP``), in it the pull secret (``pulls``), and for each app its objects,
which carry ``slipway/app``, ``slipway/project`` and, where they belong to one, ``slipway/service``, and its record, the
ConfigMap ``app.NAME``. Annotations: ``slipway/applied`` (digest of what we applied), ``slipway/move`` (the record's
number then), ``slipway/config`` (what a Pod was made from). Nothing is kept elsewhere.

It may never import the runtime, the networks or the snapshots of this machine.
"""

from slipway.engines.kubernetes.engine import KubernetesEngine
from slipway.engines.kubernetes.limits import refusals
from slipway.engines.kubernetes.pulls import PullLogin, PullLogins
from slipway.engines.kubernetes.render import manifests, namespace_manifest
from slipway.engines.kubernetes.render_network import urls
from slipway.engines.kubernetes.setting import Setting
from slipway.engines.kubernetes.waiting import Limits

__all__ = [
    "KubernetesEngine",
    "Limits",
    "PullLogin",
    "PullLogins",
    "Setting",
    "manifests",
    "namespace_manifest",
    "refusals",
    "urls",
]
