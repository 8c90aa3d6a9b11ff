-- name: forget_old
-- A few with each request, so that nothing has to be swept.
delete from viral.first_answers
where (tenant, key) in (
    select tenant, key
    from viral.first_answers
    where created_at < now() - interval '1 day'
    limit 10
    for update skip locked
);

-- name: claim
insert into viral.first_answers (tenant, key, fingerprint)
values (%(tenant)s, %(key)s, %(fingerprint)s)
on conflict do nothing
returning true as taken;

-- name: first_answer
select status, headers, body, fingerprint
from viral.first_answers
where tenant = %(tenant)s and key = %(key)s;

-- name: keep
update viral.first_answers
set status = %(status)s, headers = %(headers)s, body = %(body)s
where tenant = %(tenant)s and key = %(key)s;
