"""The worker: a fresh process with a build's own namespaces, in which every RUN is a step.

It is started for one build and ends with it: it is process 1 of the build's pid namespace. The *holder* keeps the user,
ipc, uts and network namespaces open; a *step* is a child that builds a private mount namespace as the machine's root,
over id-mapped layers, and enters the holder's namespaces only then, so that a RUN owns none of its mounts and can
change none of them.

Only the standard library and ``slipway.base`` are imported, so that it starts in a few milliseconds. Messages are JSON
over a SOCK_SEQPACKET socket: ``{"run": {...}}`` with two descriptors (stdout, stderr) in, ``{"ready": …}`` (with the
network namespace) and
``{"done": id, "status": n}`` out. When the socket closes, everything ends.
"""
