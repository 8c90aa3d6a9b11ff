"""Accounts are found by their organization, whose list and statement are read whole."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.execute(
        "create index billing_accounts_by_organization"
        " on billing_accounts (organization_id, created_at, id)"
    )


def downgrade() -> None:
    """Drop it; no row is touched."""
    op.execute("drop index billing_accounts_by_organization")
