"""Who somebody is and what they may do.

Two layers, as in an office building: log in to enter at all; inside a project, its admins manage members and
policies, developers push, build and deliver, guests pull and look. Robots are accounts of programs in one project,
with a role and an expiry. Everything that changes state leaves an audit event, and so does every refusal.

Invariants: a secret is stored only as a hash and shown once; a project a caller may not see is reported as not
found. Stands on ``slipway.state``; knows nothing of HTTP.
"""

from slipway.access.access import Access
from slipway.access.audit import AuditEvent, AuditFilter, AuditLog
from slipway.access.identity import ANONYMOUS, SYSTEM, Identity
from slipway.access.records import MemberRecord, PersonalTokenRecord, ProjectRecord, RobotRecord, UserRecord
from slipway.access.roles import Permission, Role, permissions_of
from slipway.access.tokens import Grant, RegistryTokens
from slipway.access.vault import Vault

__all__ = [
    "ANONYMOUS",
    "SYSTEM",
    "Access",
    "AuditEvent",
    "AuditFilter",
    "AuditLog",
    "Grant",
    "Identity",
    "MemberRecord",
    "Permission",
    "PersonalTokenRecord",
    "ProjectRecord",
    "RegistryTokens",
    "RobotRecord",
    "Role",
    "UserRecord",
    "Vault",
    "permissions_of",
]
