"""Budgets of a rollout, its priority, and the label by whose value its hosts go."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there need a value at once; the defaults stay in the table and are never relied upon.
    for name, kind, default in (
        ("budgets", sa.JSON(), "'[]'"),
        ("priority", sa.BigInteger(), "0"),
        ("order_label", sa.Text(), "''"),
    ):
        op.add_column("assignments", sa.Column(name, kind, nullable=False, server_default=sa.text(default)))


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
