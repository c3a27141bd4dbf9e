"""The server's side of a build's worker: starting it, giving it RUN steps, ending it.

Terms: a *sandbox* is one worker process with its namespaces, its control group and its range of ids, made for
one build; a *step* is one RUN in it. Life of a sandbox::

    sandboxes = Sandboxes(directory, network)      # one for a server; recover() first
    sandbox = await sandboxes.open(build_id, Limits(cpus=2, memory=4 << 30, pids=4096, seconds=3600))
    status = await sandbox.run(RunStep(...), output)   # any number, also at the same time
    await sandbox.close()                          # always; kills what is left

Invariants: a sandbox that is closed, whose limit of seconds has passed, or whose server was killed, leaves no
process, no mount and no network namespace; after a kill of the server its empty control group stays until
``Sandboxes.recover``. No two sandboxes of a host have the same ids: a range is taken by a lock that the
worker holds, too. The network is attached when the first step needs it, and steps without a network never
share a namespace with those that have it.

Neighbours: ``slipway.build.worker`` is the program on the other side; ``slipway.base.cgroups`` and
``slipway.base.seccomp`` bring the limits. On disk: empty lock files in /run/slipway/ids, nothing else.
"""

from slipway.build.sandbox.nested import NestedSandboxes
from slipway.build.sandbox.ranges import ID_COUNT, IdRange, IdRanges
from slipway.build.sandbox.sandbox import Sandbox
from slipway.build.sandbox.sandboxes import Sandboxes
from slipway.build.sandbox.steps import (
    Bind,
    Device,
    Layers,
    Limits,
    Network,
    NetworkAttacher,
    Output,
    RunStep,
    SmallFile,
    StepMount,
    Tmpfs,
)

__all__ = [
    "ID_COUNT",
    "Bind",
    "Device",
    "IdRange",
    "IdRanges",
    "Layers",
    "Limits",
    "NestedSandboxes",
    "Network",
    "NetworkAttacher",
    "Output",
    "RunStep",
    "Sandbox",
    "Sandboxes",
    "SmallFile",
    "StepMount",
    "Tmpfs",
]
