-- name: synchronous_commit
-- Asked inside the transaction: SET LOCAL is gone once it has ended.
select current_setting('synchronous_commit') as synchronous_commit;

-- name: after_commit
-- The flush position holds a synchronous commit and nothing that a replica may never reach. The
-- timeline is that of the log file's name: the checkpoint's lags after a promotion.
select
    ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::integer as timeline,
    pg_current_wal_flush_lsn()::text as flushed,
    pg_current_wal_insert_lsn()::text as inserted,
    pg_size_bytes(current_setting('wal_segment_size')) as segment_size,
    current_setting('wal_block_size')::integer as page_size;

-- name: after_read
select
    pg_is_in_recovery() as in_recovery,
    case
        when pg_is_in_recovery() then coalesce(
            (
                select received_tli
                from pg_stat_wal_receiver
                where coalesce(status, 'streaming') = 'streaming'
            ),
            (select timeline_id from pg_control_checkpoint())
        )
        else ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::integer
    end as timeline,
    case
        when pg_is_in_recovery() then pg_last_wal_replay_lsn()
        else pg_current_wal_flush_lsn()
    end::text as lsn;

-- name: cluster
select system_identifier from pg_control_system();
