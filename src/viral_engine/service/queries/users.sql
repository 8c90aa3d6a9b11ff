-- name: create_user
insert into users (id, organization_id, email, display_name)
values (%(id)s, %(organization_id)s, %(email)s, %(display_name)s)
returning id, organization_id, email, display_name, created_at, updated_at, version;

-- name: get_user
select id, organization_id, email, display_name, created_at, updated_at, version
from users
where id = %(id)s;

-- name: update_user
update users
set email = coalesce(%(email)s, email),
    display_name = coalesce(%(display_name)s, display_name),
    updated_at = now(),
    version = next_version(version)
where id = %(id)s and (%(versions)s::bigint[] is null or version = any(%(versions)s))
returning id, organization_id, email, display_name, created_at, updated_at, version;

-- name: list_users
select id, organization_id, email, display_name, created_at, updated_at, version
from users
order by created_at, id
limit %(limit)s;

-- name: list_users_after
select id, organization_id, email, display_name, created_at, updated_at, version
from users
where (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;
