"""Tasks, with the index that their pages walk along."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tasks table."""
    op.execute(
        """
        create table tasks (
            id uuid primary key,
            title text not null check (char_length(title) between 1 and 200),
            description text not null default '' check (char_length(description) <= 10000),
            status text not null default 'pending'
                check (status in ('pending', 'in_progress', 'completed', 'cancelled')),
            created_at timestamptz not null default now(),
            updated_at timestamptz not null default now(),
            version bigint not null default 1
        )
        """
    )
    op.execute("create index tasks_by_creation on tasks (created_at, id)")


def downgrade() -> None:
    """Drop the tasks table and every task in it."""
    op.execute("drop table tasks")
