-- What a database says of itself to whoever may sign in; run as superuser, in the app's database.
-- Each runs with its owner's rights and reads a file whose name no caller can choose.

CREATE SCHEMA IF NOT EXISTS viral;
GRANT USAGE ON SCHEMA viral TO PUBLIC;

-- Seconds for which this node is still the only one that may acknowledge; negative once they are
-- over, null where nobody vouches for it: a replica, or a node whose machine keeps no primacy.
-- Asked after a COMMIT, in the same message, a positive answer proves that no other node had been
-- promoted by then. So the deadline must be read before the clock: it may be renewed in between,
-- and an old deadline can only be too early.
CREATE OR REPLACE FUNCTION viral.primacy_remaining() RETURNS double precision
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  deadline double precision := pg_read_file('../run/primacy', true)::double precision;
  uptime double precision := split_part(pg_read_file('/proc/uptime', true), ' ', 1)::double precision;
BEGIN
  -- No deadline lies further ahead than this; one that does was written before a reboot.
  RETURN CASE WHEN deadline - uptime < 5 THEN deadline - uptime END;
END
$$;

-- Where each timeline before the present one ended, in PostgreSQL's own words; empty on the first
-- timeline, null on a replica.
CREATE OR REPLACE FUNCTION viral.timeline_history() RETURNS text
LANGUAGE plpgsql VOLATILE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  timeline text;
BEGIN
  IF pg_is_in_recovery() THEN
    RETURN NULL;
  END IF;
  timeline := substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8);
  IF timeline = '00000001' THEN
    RETURN '';
  END IF;
  RETURN pg_read_file('pg_wal/' || timeline || '.history', true);
END
$$;

-- A system without that clock can keep no primacy. There the function is not offered, and whoever
-- asks whether it is there takes the database for one without, instead of for one that lost it.
DO $$
BEGIN
  IF (pg_stat_file('/proc/uptime', true)).isdir IS NULL THEN
    DROP FUNCTION viral.primacy_remaining();
  END IF;
END
$$;
