"""Builds that are carried out elsewhere, each by a worker of its own that comes and goes with it.

The worker (``slipway.build.pod``) is a whole solver with stores of its own, which is empty when it begins; everything
it has not, it asks the server for. ``desk`` is where workers come in, ``answers`` what they are told for one build,
``forms`` the words, ``builder`` a build from a worker's start to its end, wherever the launcher starts it. ``launcher``
starts them as Pods: ``manifests`` says what one is, ``placement`` on which nodes, ``homes`` makes the namespace
they are in; ``starting`` and ``waiting`` tell from statuses and events how it goes on, ``troubled`` which nodes to
avoid, ``idle`` keeps some ready.

The protocol, all of it requests of the worker's, under ``/api/v1/workers``:

    GET  work                  with the token, which is good for this once: JSON lines. First ``{"session": …}``, which
                               is what every other request has instead of the token; then ``{"job": …}``,
                               ``{"wanted": KEY}`` (somebody waits for that step), ``{"cancel"}``
    POST ask/WHAT              the cache, base images, files from elsewhere, a secret that a step mounts,
                               what an SSH agent is to sign, whether a step is another's: a question and its answer
    GET  trees/N               a context as a list (``slipway.build.listing``)
    POST trees/N/files         the contents of the files at these places of it, one after the other
    GET, PUT blobs/DIGEST      layers: those that it was told of, and those that it made
    POST events                what the build reports, and every few seconds that the worker is alive
    POST done                  the result, or the error

Invariants: a worker sees the blobs, trees and secrets of its one build, and nothing else; the server keeps every
credential; what a worker names or made is under the build's lease before it is told or believed; a worker that is not
heard of for a while is lost, and its build can be started again, with all steps that it had finished.
"""
