-- name: before_commit
-- Asked inside the transaction: SET LOCAL is gone once it has ended. The commit's own record cannot
-- lie before this position.
select
    current_setting('synchronous_commit') as synchronous_commit,
    pg_current_wal_insert_lsn()::text as started,
    pg_current_xact_id_if_assigned() is not null as wrote;

-- name: after_commit
-- The flush position holds a synchronous commit and nothing that a replica may never reach. The
-- timeline is that of the log file's name: the checkpoint's lags after a promotion.
-- Every standby is in another region: a region has one database machine.
select
    ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::integer as timeline,
    pg_current_wal_flush_lsn()::text as flushed,
    pg_current_wal_insert_lsn()::text as inserted,
    pg_size_bytes(current_setting('wal_segment_size')) as segment_size,
    current_setting('wal_block_size')::integer as page_size,
    (
        select max(replay_lsn)::text
        from pg_stat_replication
        where state = 'streaming' and sync_state in ('sync', 'quorum')
    ) as applied_elsewhere;

-- name: after_commit_guarded
select
    ('x' || substr(pg_walfile_name(pg_current_wal_flush_lsn()), 1, 8))::bit(32)::integer as timeline,
    pg_current_wal_flush_lsn()::text as flushed,
    pg_current_wal_insert_lsn()::text as inserted,
    pg_size_bytes(current_setting('wal_segment_size')) as segment_size,
    current_setting('wal_block_size')::integer as page_size,
    (
        select max(replay_lsn)::text
        from pg_stat_replication
        where state = 'streaming' and sync_state in ('sync', 'quorum')
    ) as applied_elsewhere,
    viral.primacy_remaining() as primacy_seconds;

-- name: after_read
-- The position before the count: what is flushed up to it is shown, unless it is counted. A standby
-- shows a commit that still waits for it here.
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
    end::text as lsn,
    case
        when pg_is_in_recovery() then 0
        else (select count(*) from pg_stat_activity where wait_event = 'SyncRep')
    end as waiting;

-- name: in_two_regions
select exists (
    select from pg_stat_replication
    where state = 'streaming' and sync_state in ('sync', 'quorum')
) as in_two_regions;

-- name: is_guarded
select to_regprocedure('viral.primacy_remaining()') is not null as guarded;

-- name: barrier
-- Writes log and nothing else, so that its commit waits for all that was committed before.
select pg_logical_emit_message(true, 'viral', 'barrier');

-- name: cluster
select system_identifier from pg_control_system();

-- name: stays_primary
-- Held until the transaction ends. Who is about to hand the primary over asks for the same lock
-- alone, and gets it once all that has begun is over; from then on none is begun (nodes/handover.py).
select pg_try_advisory_xact_lock_shared(8461803312705) as stays_primary;
