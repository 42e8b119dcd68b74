"""Where rows and objects are kept: SQLite through SQLAlchemy Core, and a folder.

Rules: every implementation passes tests/conformance; the schema has versions (Alembic, `migrations`); nothing here
decides. `api` and `storage` never meet: `towpath_server.cli` puts them together.
"""

from towpath_server.storage.database import SqlStorage, Upgrade
from towpath_server.storage.deltas import FolderDeltas
from towpath_server.storage.folder import FolderBlobs

__all__ = ["FolderBlobs", "FolderDeltas", "SqlStorage", "Upgrade"]
