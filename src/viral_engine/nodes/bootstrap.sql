-- Run once by psql, as superuser, when a cluster is created; passwords come by the environment.
-- The application's role owns its database and is nothing else: no superuser, no other rights.
\set ON_ERROR_STOP on
\getenv app_password VIRAL_APP_PASSWORD
\getenv database VIRAL_DATABASE

SET password_encryption = 'scram-sha-256';

CREATE ROLE viral_app LOGIN PASSWORD :'app_password'
  NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS;

CREATE DATABASE :"database" OWNER viral_app;

-- Who may sign in at all is decided here and by pg_hba.conf, not by the default for everybody.
REVOKE CONNECT ON DATABASE postgres FROM PUBLIC;
REVOKE CONNECT, TEMPORARY ON DATABASE :"database" FROM PUBLIC;

GRANT pg_monitor TO viral_app;

\connect :"database"
\ir ../cluster/functions.sql
\ir ../data/schema.sql
