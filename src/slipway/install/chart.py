"""The installation as a Helm chart: the same documents, with places for Helm's values."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from slipway import __version__
from slipway.errors import Conflict
from slipway.install.manifests import Document, as_yaml, documents
from slipway.install.values import VALUES, Value

_PLACE = re.compile(r"__value\.([A-Za-z.]+)__")
_NUMBERS = frozenset(value.name for value in VALUES if isinstance(value.default, int))
_INSTANCE = {"app.kubernetes.io/instance": "__release__"}
_HELMS = {
    "__namespace__": "{{ .Release.Namespace }}",
    "__release__": "{{ .Release.Name | quote }}",
    "__policy__": '{{ if semverCompare ">=1.21-0" .Capabilities.KubeVersion.Version }}policy/v1'
    "{{ else }}policy/v1beta1{{ end }}",
}


def write_chart(directory: Path) -> list[Path]:
    """Write a chart into an empty or new directory and return its files. Raises ``Conflict`` when it holds others."""
    texts = {"Chart.yaml": _chart(), "values.yaml": _values(), "templates/platform.yaml": _templates()}
    strange = [str(path) for path in directory.rglob("*") if path.is_file()]
    strange = [path for path in strange if str(Path(path).relative_to(directory)) not in texts]
    if strange:
        raise Conflict(
            f"{directory} has other files in it: {', '.join(strange[:3])}", hint="name a new directory"
        )
    found = []
    for name, text in texts.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        found.append(path)
    return found


def _chart() -> str:
    about = {
        "apiVersion": "v2", "name": "slipway", "type": "application", "version": __version__,
        "appVersion": __version__, "description": "The Slipway container delivery platform.",
        "kubeVersion": ">=1.20.0-0",
    }  # fmt: skip
    return yaml.safe_dump(about, sort_keys=False)


def _values() -> str:
    """Nested as the dotted names say, each with its help above."""
    lines, section = [], ""
    for value in sorted(VALUES, key=lambda value: value.name.rpartition(".")[0]):
        head, dot, name = value.name.rpartition(".")
        if dot and head != section:
            section = head
            lines.append(f"{head}:")
        indent = "  " if dot else ""
        lines += [f"{indent}# {value.help}", f"{indent}{name}: {_scalar(value)}"]
    return "\n".join(lines) + "\n"


def _scalar(value: Value) -> str:
    return str(value.default) if isinstance(value.default, int) else f'"{value.default}"'


def _templates() -> str:
    found = documents(lambda name: f"__value.{name}__", _INSTANCE, "__policy__", "__namespace__")
    return "---\n".join(map(_template, found))


def _template(document: Document) -> str:
    text = _PLACE.sub(_place, as_yaml([document.object]))
    for place, written in _HELMS.items():
        text = text.replace(place, written)
    if not document.when:
        return text
    values = " ".join(f".Values.{name}" for name in document.when)
    return f"{{{{- if {'and ' if len(document.when) > 1 else ''}{values} }}}}\n{text}{{{{- end }}}}\n"


def _place(match: re.Match[str]) -> str:
    name = match[1]
    return f"{{{{ .Values.{name} }}}}" if name in _NUMBERS else f"{{{{ .Values.{name} | quote }}}}"
