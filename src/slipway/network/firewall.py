"""What netavark leaves in the packet filter, found in ``iptables-save``'s text and undone.

netavark takes a network's rules away with its last container, if it gets to the end and the namespace still exists;
its shared chains it never takes away. Working from what is really there makes cleaning right after any crash. The
removal is one transaction a table.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from slipway.base.process import run

_OWN_CHAIN = re.compile(r"NETAVARK-(DN-)?[0-9A-F]{13}")
_SHARED_CHAIN = re.compile(r"NETAVARK(_[A-Z0-9_]+|-HOSTPORT-[A-Z]+)")
_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Trace:
    """How a network's rules are recognised."""

    bridge: str
    subnet: str

    @property
    def chains(self) -> frozenset[str]:
        """The chains netavark makes for it: of the name it was told, which is the bridge's."""
        digest = hashlib.sha512(self.bridge.encode()).hexdigest()[:13].upper()
        return frozenset((f"NETAVARK-{digest}", f"NETAVARK-DN-{digest}"))


@dataclass(frozen=True, slots=True)
class _Rule:
    chain: str
    words: tuple[str, ...]
    text: str

    @property
    def target(self) -> str:
        for flag in ("-j", "-g"):
            if flag in self.words:
                return self.words[self.words.index(flag) + 1]
        return ""


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    chains: tuple[str, ...]
    rules: tuple[_Rule, ...]


async def clean(traces: Sequence[Trace], *, final: bool = False) -> None:
    """Remove the rules of ``traces``; with ``final`` also the shared chains that serve nobody any more."""
    for _ in range(_ATTEMPTS):
        saved = await run(["iptables-save"], check=False)
        script = removal(saved.stdout.decode(errors="replace"), traces, final=final)
        if not script:
            return
        # Refused as a whole if a rule has gone meanwhile: look again.
        done = await run(["iptables-restore", "--noflush"], stdin=script.encode(), check=False)
        if done.returncode == 0:
            return


def removal(saved: str, traces: Sequence[Trace], *, final: bool = False) -> str:
    """The input of ``iptables-restore --noflush`` that undoes ``traces``; empty if nothing is there."""
    return "".join(_undo(table, traces, final) for table in _tables(saved))


def _undo(table: _Table, traces: Sequence[Trace], final: bool) -> str:
    gone = [rule for rule in table.rules if any(_is_of(rule, trace) for trace in traces)]
    chains = _abandoned(table, gone, traces)
    gone = [rule for rule in table.rules if rule in gone or rule.chain in chains or rule.target in chains]
    if final:
        chains |= _idle(table, gone, chains)
        gone = [rule for rule in table.rules if rule in gone or rule.chain in chains or rule.target in chains]
    if not gone and not chains:
        return ""
    lines = [f"*{table.name}"]
    lines += [rule.text.replace("-A ", "-D ", 1) for rule in gone if rule.chain not in chains]
    lines += [f"-F {chain}" for chain in table.chains if chain in chains]
    lines += [f"-X {chain}" for chain in table.chains if chain in chains]
    return "\n".join([*lines, "COMMIT"]) + "\n"


def _is_of(rule: _Rule, trace: Trace) -> bool:
    return rule.words[0].startswith("-A") and (
        trace.subnet in rule.words or trace.bridge in rule.words or bool(trace.chains & {rule.target})
    )


def _abandoned(table: _Table, gone: Collection[_Rule], traces: Sequence[Trace]) -> set[str]:
    """Chains of one network that nothing leads into any more."""
    own = {chain for trace in traces for chain in trace.chains}
    own |= {rule.target for rule in gone if _OWN_CHAIN.fullmatch(rule.target)}
    kept = {rule.target for rule in table.rules if rule not in gone}
    return {chain for chain in table.chains if chain in own - kept}


def _idle(table: _Table, gone: Collection[_Rule], chains: Collection[str]) -> set[str]:
    """The shared chains, if no network is left in this table: not ours, not another program's."""
    shared = {chain for chain in table.chains if _SHARED_CHAIN.fullmatch(chain)}
    if any(_OWN_CHAIN.fullmatch(chain) and chain not in chains for chain in table.chains):
        return set()
    for rule in table.rules:
        if rule not in gone and rule.chain in shared and ({"-s", "-d", "-i", "-o"} & set(rule.words)):
            return set()
    return shared


def _tables(saved: str) -> Iterator[_Table]:
    name, chains, rules = "", list[str](), list[_Rule]()
    for line in saved.splitlines():
        if line.startswith("*"):
            name, chains, rules = line[1:].strip(), [], []
        elif line.startswith(":"):
            chains += line[1:].split()[:1]
        elif line.startswith("-A "):
            words = tuple(shlex.split(line))
            rules.append(_Rule(words[1], words, line))
        elif line == "COMMIT":
            yield _Table(name, tuple(chains), tuple(rules))
