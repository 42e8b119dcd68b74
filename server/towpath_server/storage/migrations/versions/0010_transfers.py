"""How far what travels to a host is."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("app_states", sa.Column("transfer", sa.JSON(), nullable=True))


def downgrade() -> None:
    raise NotImplementedError("put back the backup that was made before the upgrade")
