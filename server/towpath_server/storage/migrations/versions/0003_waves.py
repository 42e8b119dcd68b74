"""Waves: a rollout's steps, limits and place in them, and who was told to go back."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_NUMBERS = ("wave", "wave_done_unix_ms", "max_failure_share", "resumed_unix_ms", "done_unix_ms")


def upgrade() -> None:
    # Rows that are there need a value at once; the defaults stay in the table and are never relied upon.
    empty = sa.text("'[]'")
    op.add_column("assignments", sa.Column("waves", sa.JSON(), nullable=False, server_default=empty))
    op.add_column("assignments", sa.Column("excused", sa.JSON(), nullable=False, server_default=empty))
    op.add_column("assignments", sa.Column("on_breach", sa.Text(), nullable=False, server_default=sa.text("'halt'")))
    for name in _NUMBERS:
        op.add_column("assignments", sa.Column(name, sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    # What is done now can be gone back to; of what was superseded nobody knows whether it ever was.
    op.execute("UPDATE assignments SET done_unix_ms = created_unix_ms WHERE state = 'done'")
    op.create_table(
        "retreats",
        sa.Column("assignment_id", sa.Text(), nullable=False),
        sa.Column("host_id", sa.Text(), nullable=False),
        sa.Column("at_unix_ms", sa.BigInteger(), nullable=False),
        sa.Column("arrived_unix_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("assignment_id", "host_id", name=op.f("pk_retreats")),
    )


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
