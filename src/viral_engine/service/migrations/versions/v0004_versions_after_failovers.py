"""Versions that a failover took away are not given again, to other contents."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the function: the next version, above all that an earlier timeline can have given.

    A timeline begins at (n - 1) * 2^32; JavaScript counts exactly up to 2^53, or two million failovers.
    """
    op.execute(
        """
        create function next_version(version bigint) returns bigint language sql volatile as $$
            select greatest(
                version + 1,
                ((('x' || substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8))
                    ::bit(32)::bigint - 1) << 32) + 1
            )
        $$
        """
    )


def downgrade() -> None:
    """Drop it; no row is touched."""
    op.execute("drop function next_version(bigint)")
