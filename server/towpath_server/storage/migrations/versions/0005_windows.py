"""Windows: when a rollout may move hosts, whom it waits for, and the calendar of freezes and windows."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there need a value at once; the defaults stay in the table and are never relied upon.
    timing = sa.Column("timing", sa.JSON(), nullable=False, server_default=sa.text("'{}'"))
    op.add_column("assignments", timing)
    wait = sa.Column("offline_wait_ms", sa.BigInteger(), nullable=False, server_default=sa.text("0"))
    op.add_column("assignments", wait)
    op.add_column("assignments", sa.Column("newcomers", sa.Text(), nullable=False, server_default=sa.text("'join'")))
    op.add_column("assignments", sa.Column("roster", sa.JSON(none_as_null=True), nullable=True))
    op.create_table(
        "calendar",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_unix_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.Text(), nullable=False),
        sa.Column("selector", sa.JSON(), nullable=False),
        sa.Column("weekly", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("from_unix_ms", sa.BigInteger(), nullable=False),
        sa.Column("until_unix_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_calendar")),
    )


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
