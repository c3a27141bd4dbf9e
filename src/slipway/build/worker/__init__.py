"""The worker: the program in whose children a build's RUN instructions are carried out.

One worker process is started for one build, by ``slipway.build.sandbox``, and ends with it. Only the standard
library and ``slipway.base`` are imported, so that it starts in a few milliseconds and has no secret in its
memory.

Processes, from the outside in::

    worker     root in the machine's own namespaces; forks, and does nothing else
    └ holder   process 1 of the build's pid namespace, root of its user namespace; when it dies, all below dies
      └ keeper   one for each RUN: waits for it, kills it when the server hangs up, reports how it ended
        └ step     process 1 of the RUN's own pid namespace; becomes the command by ``execve``

A step sets up its mounts as the machine's root: id-mapped layers (so that files keep ids from 0 up on disk),
an overlay with ``trusted.*`` attributes, /proc, /sys, /dev. Only when its root is complete and everything
else is out of reach does it enter the user namespace. So a RUN owns none of the mounts it sees and can change
none of them, and its mount, ipc and uts namespaces are not the build's but its own.

Invariants: nothing of the host stays reachable after ``pivot_root``; no path of the image is followed out of
the image (every one is resolved by ``openat2`` within it); nothing a step mounts leaves a trace in the upper
directory; when the server's end of the control socket closes, everything ends.

Messages are JSON over a SOCK_SEQPACKET socket, the long part of a request in a memory file that is sent
along:

    {"op": "start"}    + specification, id range lock           -> {"ready": pid} | {"error": text}
    {"op": "network"}                                           -> {"netns": path} | {"error": text}
    {"op": "step"}     + specification, stdout, stderr, leash   (no answer)

How a step ended is said on its leash, a socket of its own: ``{"status": n}`` (negative: the signal) or
``{"error": text}`` when it could not be set up. Hanging up the leash kills the step.
"""
