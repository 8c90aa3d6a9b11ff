"""Organizations, users, billing, metrics, and the audit log that only grows."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

TABLES = (
    """
    create table organizations (
        id uuid primary key,
        name text not null check (char_length(name) between 1 and 200),
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        version bigint not null default 1
    )
    """,
    """
    create table users (
        id uuid primary key,
        organization_id uuid not null constraint users_organization references organizations (id),
        email text not null constraint users_email unique
            check (char_length(email) between 3 and 254),
        display_name text not null check (char_length(display_name) between 1 and 200),
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        version bigint not null default 1
    )
    """,
    """
    create table billing_accounts (
        id uuid primary key,
        organization_id uuid not null
            constraint billing_accounts_organization references organizations (id),
        name text not null check (char_length(name) between 1 and 200),
        balance_cents bigint not null default 0
            check (balance_cents between 0 and 1000000000000000),
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        version bigint not null default 1
    )
    """,
    """
    create table billing_entries (
        id uuid primary key,
        account_id uuid not null references billing_accounts (id),
        kind text not null check (kind in ('credit', 'charge', 'transfer')),
        amount_cents bigint not null check (amount_cents <> 0),
        balance_cents bigint not null,
        transfer_id uuid,
        note text not null default '' check (char_length(note) <= 200),
        created_at timestamptz not null
    )
    """,
    """
    create table metrics (
        id uuid primary key,
        name text not null unique check (char_length(name) between 1 and 100),
        value double precision not null,
        at text collate "C" not null,
        created_at timestamptz not null default now(),
        updated_at timestamptz not null default now(),
        version bigint not null default 1
    )
    """,
    """
    create table audit_logs (
        id uuid primary key,
        resource text not null,
        row_id uuid not null,
        action text not null,
        details jsonb not null,
        created_at timestamptz not null default now()
    )
    """,
)
INDEXES = (
    "create index organizations_by_creation on organizations (created_at, id)",
    "create index users_by_creation on users (created_at, id)",
    "create index billing_accounts_by_creation on billing_accounts (created_at, id)",
    "create index billing_entries_by_creation on billing_entries (account_id, created_at, id)",
    "create index metrics_by_creation on metrics (created_at, id)",
    "create index audit_logs_by_creation on audit_logs (created_at, id)",
)
# Whoever keeps to the service cannot change history anyway; this holds for the rest as well.
ONLY_GROWS = (
    """
    create function refuse_change_v1() returns trigger language plpgsql as $$
    begin
        raise exception '% only grows', tg_table_name using errcode = 'restrict_violation';
    end
    $$
    """,
    """
    create trigger audit_logs_only_grow before update or delete or truncate on audit_logs
    for each statement execute function refuse_change_v1()
    """,
    """
    create trigger billing_entries_only_grow before update or delete or truncate on billing_entries
    for each statement execute function refuse_change_v1()
    """,
)


def upgrade() -> None:
    """Create the tables of all resources but tasks."""
    for statement in (*TABLES, *INDEXES, *ONLY_GROWS):
        op.execute(statement)


def downgrade() -> None:
    """Drop these tables and every row in them."""
    op.execute(
        "drop table audit_logs, metrics, billing_entries, billing_accounts, users, organizations"
    )
    op.execute("drop function refuse_change_v1")
