-- name: create_organization
insert into organizations (id, name)
values (%(id)s, %(name)s)
returning id, name, created_at, updated_at, version;

-- name: get_organization
select id, name, created_at, updated_at, version
from organizations
where id = %(id)s;

-- name: update_organization
update organizations
set name = coalesce(%(name)s, name), updated_at = now(), version = next_version(version)
where id = %(id)s and (%(versions)s::bigint[] is null or version = any(%(versions)s))
returning id, name, created_at, updated_at, version;

-- name: list_organizations
select id, name, created_at, updated_at, version
from organizations
order by created_at, id
limit %(limit)s;

-- name: list_organizations_after
select id, name, created_at, updated_at, version
from organizations
where (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;
