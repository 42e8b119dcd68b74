"""Restored databases: numbers that were never given out, and hosts that know more than this database."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "gaps",
        sa.Column("after", sa.BigInteger(), nullable=False),
        sa.Column("before", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("before", name=op.f("pk_gaps")),
    )
    op.create_table(
        "ahead",
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("at_unix_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("host_id", name=op.f("pk_ahead")),
    )


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
