"""Ticks: which hosts changed since when, and who decides rollouts."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there need a value at once; the default stays in the table and is never relied upon.
    op.add_column("hosts", sa.Column("change", sa.BigInteger(), nullable=False, server_default=sa.text("0")))
    op.create_index(op.f("ix_hosts_change"), "hosts", ["environment", "change"])
    op.create_table(
        "leases",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("seat", sa.Text(), nullable=False),
        sa.Column("epoch", sa.BigInteger(), nullable=False),
        sa.Column("beat", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_leases")),
    )


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
