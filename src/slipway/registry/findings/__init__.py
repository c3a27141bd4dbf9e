"""What is known to be wrong with the packages of an image, from advisories in the OSV format.

``osv`` reads a dump of a database, ``index`` keeps it in one file, ``shared`` gives that to all servers, ``matching``
holds the packages of an SPDX document against it. ``record``, ``archive``, ``severity`` and ``cvss`` are the parts of
reading; ``purls``, ``ecosystems``, ``versions``, ``ranges`` and ``grouping`` those of matching.

Invariants: a dump and a document come from anybody, so every part of them has a limit, and what cannot be understood
is refused or counted, never an error of another kind; what was not looked at is said, it does not pass for free of
findings. Everything but ``shared`` blocks; nothing here opens a connection.

Example::

    advisories = Advisories(directory / "advisories.sqlite")
    advisories.load(Path("all.zip"), source="Debian")
    for finding in match_document(json.loads(sbom), advisories).findings:
        print(finding.severity.level, finding.id, finding.package, finding.version, finding.fixed)
"""

from slipway.registry.findings.advisories import Advisory, Affected, Event, Level, Range, Severity
from slipway.registry.findings.finding import Finding
from slipway.registry.findings.index import Advisories, Lookup, Source
from slipway.registry.findings.matching import Matches, match, match_document
from slipway.registry.findings.osv import Counts, Limits, read
from slipway.registry.findings.purls import Installed, packages_of
from slipway.registry.findings.shared import SharedAdvisories

__all__ = [
    "Advisories", "Advisory", "Affected", "Counts", "Event", "Finding", "Installed", "Level", "Limits", "Lookup",
    "Matches", "Range", "Severity", "SharedAdvisories", "Source", "match", "match_document", "packages_of", "read",
]  # fmt: skip
