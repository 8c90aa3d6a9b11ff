-- name: counts
select
    (select count(*) from users) as users,
    (select count(*) from organizations) as organizations,
    (select count(*) from billing_accounts) as billing,
    (select count(*) from tasks) as tasks,
    (select count(*) from metrics) as metrics,
    (select count(*) from audit_logs) as audit_logs;
