"""Gates: approvals and metrics of a rollout, the order of environments, parameters of environments and labels."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there need a value at once; the defaults stay in the table and are never relied upon.
    for name in ("approvers", "approvals", "metrics"):
        op.add_column("assignments", sa.Column(name, sa.JSON(), nullable=False, server_default=sa.text("'[]'")))
    zero = sa.text("0")
    op.add_column("assignments", sa.Column("entered_unix_ms", sa.BigInteger(), nullable=False, server_default=zero))
    # Nothing that is under way is to wait for an order of environments that was not there when it began.
    op.execute("UPDATE assignments SET entered_unix_ms = created_unix_ms")
    op.create_table(
        "environments",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("after", sa.Text(), nullable=False),
        sa.Column("healthy_for_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_environments")),
    )
    op.create_table(
        "settings",
        sa.Column("environment", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("app", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("environment", "label", "app", "name", name=op.f("pk_settings")),
    )


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
