-- name: create_task
insert into tasks (id, title, description, status)
values (%(id)s, %(title)s, %(description)s, %(status)s)
returning id, title, description, status, created_at, updated_at, version;

-- name: get_task
select id, title, description, status, created_at, updated_at, version
from tasks
where id = %(id)s;

-- name: list_tasks
select id, title, description, status, created_at, updated_at, version
from tasks
order by created_at, id
limit %(limit)s;

-- name: list_tasks_after
select id, title, description, status, created_at, updated_at, version
from tasks
where (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;

-- name: update_task
update tasks
set title = coalesce(%(title)s, title),
    description = coalesce(%(description)s, description),
    status = coalesce(%(status)s, status),
    updated_at = now(),
    version = next_version(version)
where id = %(id)s and (%(versions)s::bigint[] is null or version = any(%(versions)s))
returning id, title, description, status, created_at, updated_at, version;
