-- What the runtime keeps in the app's own database. Safe to run again.
create schema if not exists viral;
grant usage on schema viral to public;

-- The first answer to each request that carried an idempotency key, written in the transaction of
-- its effect. Rows older than a day are forgotten by later requests.
create table if not exists viral.first_answers (
    tenant text not null,
    key text not null,
    fingerprint bytea not null,
    status smallint,
    headers jsonb,
    body bytea,
    created_at timestamptz not null default now(),
    primary key (tenant, key)
);
create index if not exists first_answers_by_age on viral.first_answers (created_at);
grant select, insert, update, delete on viral.first_answers to public;
