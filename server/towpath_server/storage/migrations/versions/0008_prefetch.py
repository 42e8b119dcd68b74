"""Downloads ahead: which rollouts want them, and how far each host is."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Rows that are there need a value at once; the default stays in the table and is never relied upon.
    no = sa.text("0")
    op.add_column("assignments", sa.Column("prefetch", sa.Boolean(), nullable=False, server_default=no))
    op.add_column("app_states", sa.Column("prefetch", sa.JSON(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
