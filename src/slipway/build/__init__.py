"""From a Dockerfile to an image: parse, plan, solve, export; each build in its own isolated worker.

``dockerfile`` and ``plan`` are pure; ``solve`` carries a plan out against the content store, the cache and a sandbox;
``jobs`` gives every build an owner, limits, a record and a log, ``making`` makes and stores its image; ``worker`` is
the program that runs RUN in fresh namespaces, and ``sandbox`` starts and ends it. Neighbours: ``slipway.snapshots``
and ``slipway.layers`` below, ``slipway.delivery`` above.
"""
