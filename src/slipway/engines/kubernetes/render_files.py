"""ConfigMaps, Secrets and PersistentVolumeClaims."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from slipway.compose import Project
from slipway.delivery.engine import AppRef
from slipway.engines.kubernetes.names import digest_of, object_labels, object_name
from slipway.engines.kubernetes.quantities import memory
from slipway.engines.kubernetes.setting import Setting

KEY = "content"


def config_name(app: AppRef, name: str, text: str) -> str:
    """With the text's digest: a release's Pods never see another release's text."""
    return object_name(app.name, name, digest_of(text))


def volume_name(app: AppRef, name: str) -> str:
    return object_name(app.name, name)


def files(app: AppRef, model: Project, version: str) -> Iterator[dict[str, Any]]:
    for name, text in model.configs.items():
        metadata = {"name": config_name(app, name, text), "labels": object_labels(app, version)}
        yield {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {KEY: text}}
    for name, text in model.secrets.items():
        metadata = {"name": config_name(app, name, text), "labels": object_labels(app, version)}
        data = {KEY: base64.b64encode(text.encode()).decode()}
        yield {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data}


def volumes(app: AppRef, model: Project, setting: Setting) -> Iterator[dict[str, Any]]:
    """Named volumes. They outlive releases, so no release is written on them."""
    for name in model.volumes:
        labels = object_labels(app, "0")
        size = model.volume_sizes.get(name) or setting.volume_size
        spec: dict[str, Any] = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": memory(size)}},
        }
        if setting.storage_class:
            spec["storageClassName"] = setting.storage_class
        yield {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": volume_name(app, name), "labels": labels},
            "spec": spec,
        }
