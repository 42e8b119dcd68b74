"""Holds: what a host's last sync said about its own pauses, and when one of them ended."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there need a value at once; the defaults stay in the table and are never relied upon.
    op.add_column("hosts", sa.Column("holds", sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
    op.add_column("hosts", sa.Column("released_unix_ms", sa.BigInteger(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
