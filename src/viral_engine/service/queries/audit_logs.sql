-- name: record
insert into audit_logs (id, resource, row_id, action, details)
values (%(id)s, %(resource)s, %(row_id)s, %(action)s, %(details)s);

-- name: list_audit_logs
select id, resource, row_id, action, details, created_at
from audit_logs
order by created_at, id
limit %(limit)s;

-- name: list_audit_logs_after
select id, resource, row_id, action, details, created_at
from audit_logs
where (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;
