-- One row: what this node is and how far it has come.
-- The timeline of a primary is read from the name of its current log file: the checkpoint lags
-- after a promotion. A replica that has replayed all it received has no lag, however long ago the
-- last transaction was; one whose receiver is gone cannot know its lag (null).
with receiver as (
    select received_tli
    from pg_stat_wal_receiver
    -- An account without pg_read_all_stats sees the row but not its status.
    where coalesce(status, 'streaming') = 'streaming'
)
select
    pg_is_in_recovery() as in_recovery,
    case
        when pg_is_in_recovery() then coalesce(
            (select received_tli from receiver),
            (select timeline_id from pg_control_checkpoint())
        )
        else ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::integer
    end as timeline,
    case
        when pg_is_in_recovery() then pg_last_wal_replay_lsn()
        else pg_current_wal_flush_lsn()
    end::text as lsn,
    case
        when not pg_is_in_recovery() then 0
        when not exists (select from receiver) then null
        when pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() then 0
        else greatest(0, extract(epoch from now() - pg_last_xact_replay_timestamp()))
    end::double precision as lag_seconds,
    (select system_identifier from pg_control_system()) as cluster
