-- name: create_account
insert into billing_accounts (id, organization_id, name)
values (%(id)s, %(organization_id)s, %(name)s)
returning id, organization_id, name, balance_cents, created_at, updated_at, version;

-- name: get_account
select id, organization_id, name, balance_cents, created_at, updated_at, version
from billing_accounts
where id = %(id)s;

-- name: lock_accounts
-- In the order of their ids, so that two transfers that cross never wait for each other.
select id, organization_id, name, balance_cents, created_at, updated_at, version
from billing_accounts
where id = any(%(ids)s)
order by id
for update;

-- name: move
-- Once the account is locked, and never at or before its last movement: entries are in the order of
-- their balances, also where a new primary's clock is behind the one before it.
with moved as (
    update billing_accounts
    set balance_cents = balance_cents + %(amount_cents)s, version = next_version(version),
        updated_at = greatest(clock_timestamp(), updated_at + interval '1 microsecond')
    where id = %(account_id)s
        and balance_cents + %(amount_cents)s between 0 and 1000000000000000
    returning id, balance_cents, updated_at
)
insert into billing_entries
    (id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at)
select %(entry_id)s, moved.id, %(kind)s, %(amount_cents)s, moved.balance_cents, %(transfer_id)s,
    %(note)s, moved.updated_at
from moved
returning id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at;

-- name: list_billing_accounts
select id, organization_id, name, balance_cents, created_at, updated_at, version
from billing_accounts
order by created_at, id
limit %(limit)s;

-- name: list_billing_accounts_after
select id, organization_id, name, balance_cents, created_at, updated_at, version
from billing_accounts
where (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;

-- name: list_entries
select id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at
from billing_entries
where account_id = %(account_id)s
order by created_at, id
limit %(limit)s;

-- name: list_entries_after
select id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at
from billing_entries
where account_id = %(account_id)s and (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;

-- name: list_organization_accounts
select id, organization_id, name, balance_cents, created_at, updated_at, version
from billing_accounts
where organization_id = %(organization_id)s
order by created_at, id
limit %(limit)s;

-- name: list_organization_accounts_after
select id, organization_id, name, balance_cents, created_at, updated_at, version
from billing_accounts
where organization_id = %(organization_id)s and (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;

-- name: list_organization_entries
select id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at
from billing_entries
where account_id in (select id from billing_accounts where organization_id = %(organization_id)s)
order by created_at, id
limit %(limit)s;

-- name: list_organization_entries_after
select id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at
from billing_entries
where account_id in (select id from billing_accounts where organization_id = %(organization_id)s)
    and (created_at, id) > (%(created_at)s, %(id)s)
order by created_at, id
limit %(limit)s;

-- name: latest_entries
select id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at
from unnest(%(ids)s) as asked (account),
    lateral (
        select * from billing_entries
        where account_id = asked.account
        order by created_at desc, id desc
        limit %(limit)s
    ) as latest
order by created_at, id;
