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
-- The entry's time is taken once the account is locked, so that entries are in the order of their
-- balances.
with moved as (
    update billing_accounts
    set balance_cents = balance_cents + %(amount_cents)s, updated_at = now(), version = version + 1
    where id = %(account_id)s
        and balance_cents + %(amount_cents)s between 0 and 1000000000000000
    returning id, balance_cents
)
insert into billing_entries
    (id, account_id, kind, amount_cents, balance_cents, transfer_id, note, created_at)
select %(entry_id)s, moved.id, %(kind)s, %(amount_cents)s, moved.balance_cents, %(transfer_id)s,
    %(note)s, clock_timestamp()
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
