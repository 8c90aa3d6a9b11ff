with node as (select pg_is_in_recovery() as in_recovery)
select
    node.in_recovery,
    -- What was received may be forgotten by a restart, and what was replayed had been received.
    case
        when node.in_recovery then greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        else pg_current_wal_flush_lsn()
    end as received,
    case
        when node.in_recovery then pg_last_wal_replay_lsn() else pg_current_wal_flush_lsn()
    end as replayed,
    exists (select from pg_stat_wal_receiver where status = 'streaming') as streaming,
    -- The timeline of the last checkpoint lags behind a promotion.
    case
        when node.in_recovery then coalesce(
            (select received_tli from pg_stat_wal_receiver),
            (select timeline_id from pg_control_checkpoint())
        )
        else ('x' || left(pg_walfile_name(pg_current_wal_flush_lsn()), 8))::bit(32)::integer
    end as timeline
from node
