"""Several Compose files made one, by the rules of the specification: the later file wins, lists grow. Pure."""

from __future__ import annotations

import yaml

from slipway.compose.document import Sources, pairs

_NULL = "tag:yaml.org,2002:null"
_TEXT = "tag:yaml.org,2002:str"
_MAP = "tag:yaml.org,2002:map"
_REPLACED = {"command", "entrypoint", "test"}
_SETS = {"cap_add", "cap_drop", "tmpfs", "expose", "profiles", "env_file", "ports", "configs", "secrets"}
_MAPPINGS = {"environment", "labels", "args", "extra_hosts", "depends_on", "networks"}


def merge(sources: Sources, base: yaml.Node, over: yaml.Node, path: tuple[str, ...] = ()) -> yaml.Node:
    """``over`` laid over ``base``. ``!override`` replaces instead; a null leaves what was there."""
    key = path[-1] if path else ""
    if over.tag == "!override" or key in _REPLACED:
        return over
    if over.tag == _NULL:
        return base
    if path and path[0].startswith("x-"):
        return _mappings(sources, base, over, path) if _both(base, over, yaml.MappingNode) else over
    if key in _MAPPINGS and len(path) > 2:
        base, over = _as_mapping(base, key), _as_mapping(over, key)
    if key == "build" and len(path) == 3:
        base, over = _as_build(base), _as_build(over)
    if _both(base, over, yaml.MappingNode):
        return _mappings(sources, base, over, path)
    if key in _SETS | {"volumes"} and len(path) == 3:
        return _lists(base, over, distinct=key in _SETS)
    return over


def _both(base: yaml.Node, over: yaml.Node, kind: type[yaml.Node]) -> bool:
    return isinstance(base, kind) and isinstance(over, kind)


def _mappings(sources: Sources, base: yaml.Node, over: yaml.Node, path: tuple[str, ...]) -> yaml.Node:
    assert isinstance(base, yaml.MappingNode)
    assert isinstance(over, yaml.MappingNode)
    found = {key.value: (key, value) for key, value in pairs(sources, base)}
    for key, value in pairs(sources, over):
        if value.tag == "!reset":
            found.pop(key.value, None)
        elif key.value in found:
            found[key.value] = (key, merge(sources, found[key.value][1], value, (*path, key.value)))
        else:
            found[key.value] = (key, value)
    return yaml.MappingNode(_MAP, list(found.values()), over.start_mark, over.end_mark)


def _lists(base: yaml.Node, over: yaml.Node, *, distinct: bool) -> yaml.Node:
    """Both lists' items; equal texts once if ``distinct``. (Volumes are made one by target when they are read.)"""
    found: list[yaml.Node] = []
    seen: set[str] = set()
    for node in (base, over):
        for item in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if distinct and isinstance(item, yaml.ScalarNode):
                if item.value in seen:
                    continue
                seen.add(item.value)
            found.append(item)
    return yaml.SequenceNode("tag:yaml.org,2002:seq", found, over.start_mark, over.end_mark)


def _as_mapping(node: yaml.Node, key: str) -> yaml.Node:
    """``[A=b]`` as ``{A: b}``, and a list of dependencies as a mapping without conditions."""
    if not isinstance(node, yaml.SequenceNode):
        return node
    found = []
    for item in node.value:
        if not isinstance(item, yaml.ScalarNode):
            return node
        name, sign, text = item.value.partition("=")
        if key == "extra_hosts" and not sign:
            name, sign, text = item.value.partition(":")
        tag = _TEXT if sign else _NULL
        value = yaml.ScalarNode(tag, text, item.start_mark, item.end_mark)
        found.append((yaml.ScalarNode(_TEXT, name, item.start_mark, item.end_mark), value))
    return yaml.MappingNode(_MAP, found, node.start_mark, node.end_mark)


def _as_build(node: yaml.Node) -> yaml.Node:
    if not isinstance(node, yaml.ScalarNode):
        return node
    key = yaml.ScalarNode(_TEXT, "context", node.start_mark, node.end_mark)
    return yaml.MappingNode(_MAP, [(key, node)], node.start_mark, node.end_mark)
