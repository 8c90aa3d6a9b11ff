-- name: wall_ms
select floor(extract(epoch from clock_timestamp()) * 1000)::bigint;

-- name: create_metric
insert into metrics (id, name, value, at)
values (%(id)s, %(name)s, %(value)s, %(at)s)
on conflict (name) do nothing
returning id, name, value, at, created_at, updated_at, version;

-- name: get_metric
select id, name, value, at, created_at, updated_at, version
from metrics
where name = %(name)s;

-- name: lock_metric
select id, name, value, at, created_at, updated_at, version
from metrics
where name = %(name)s
for update;

-- name: update_metric
update metrics
set value = %(value)s, at = %(at)s, updated_at = now(), version = next_version(version)
where name = %(name)s and version = %(replaces)s
returning id, name, value, at, created_at, updated_at, version;

-- name: list_metrics
select id, name, value, at, created_at, updated_at, version
from metrics
order by created_at, id
limit %(limit)s;

-- name: list_metrics_after
select id, name, value, at, created_at, updated_at, version
from metrics
where (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;
