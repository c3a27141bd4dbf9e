"""The relational state: database sessions, tables, migrations.

What must survive and be consistent with other facts (users, tags, releases) is here; bytes are in
``slipway.content``. SQLite in WAL mode on one machine, PostgreSQL beyond. Tables are declared here, one module a
theme, and given meaning by the rooms above; no network call is made while a session is open.
"""

from slipway.state.database import Database
from slipway.state.upsert import add_once, replace

__all__ = ["Database", "add_once", "replace"]
