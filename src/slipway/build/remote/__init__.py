"""Source code and files from elsewhere: ADD and contexts by URL and from git.

They are fetched by the server, not by a worker: no step ever sees a credential or can pretend to be the network. What
names a host that is this machine itself, or only reachable from it (loopback, link-local), is refused, since whoever
may build must not thereby reach what listens there. What was fetched becomes a tree like a build context; its content,
not its address, is in the cache's keys.
"""

from slipway.build.remote.credentials import NOBODY, Credentials
from slipway.build.remote.fetch import Fetched, Fetching, Remotes
from slipway.build.remote.names import GitSource, HttpSource, RemoteSource, parse_remote

__all__ = [
    "NOBODY",
    "Credentials",
    "Fetched",
    "Fetching",
    "GitSource",
    "HttpSource",
    "RemoteSource",
    "Remotes",
    "parse_remote",
]
