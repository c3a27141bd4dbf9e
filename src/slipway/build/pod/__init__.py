"""The worker that builds elsewhere: one build in one Pod.

``python -m slipway.build.pod --keys DIRECTORY --work DIRECTORY`` reads a token and the server's address from files,
takes up a user namespace (``namespace``), comes in at the server (``server``) and waits for its build, so that one that
was started before it was wanted is no different from another. Then it is a whole solver (``work``) with stores of its
own below the work directory, which ask the server for what they have not (``stores``): the layer cache, base images,
layers, the context's files, what comes from elsewhere. Layers are unpacked while they come (``arriving``), and travel
to the server while the next step runs.

Processes, from the outside in::

    first      as the container started it; waits, reaps. Nothing of it is in reach of what follows
    └ solver   root of a user namespace of this Pod's own; holds the session, and a secret while a step starts
      └ worker …  as on the server's own machine (``slipway.build.worker``), each RUN in a user namespace below that

Invariants: the token is in no environment and no argument, and good for one time; what a RUN sees is its root, which
has neither the keys' directory nor the work directory; when the server hangs up, everything ends.
"""
