from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, HTTPException, Response
from fastapi.exceptions import RequestValidationError

from viral_engine.service.billing import Account, Billing, Entry, EntryKind, Refused, Transfer
from viral_engine.service.billing_shapes import (
    AccountPage,
    AccountShape,
    EntryPage,
    EntryShape,
    Movement,
    NewAccount,
    NewTransfer,
    TransferShape,
)
from viral_engine.service.pages import AfterQuery, LimitQuery, Page, cursor_of
from viral_engine.service.preconditions import IfNoneMatch, answered, unless_unchanged
from viral_engine.service.problems import RefusedError
from viral_engine.service.responses import READ, TAGGED, UNCHANGED, WRITE, problems

__all__ = ["billing_routes"]


def billing_routes(billing: Billing) -> APIRouter:
    """Return the routes under /api/billing."""
    router = APIRouter(prefix="/api/billing", tags=["billing"])
    _add_accounts(router, billing)
    _add_movements(router, billing)
    _add_organizations(router, billing)
    return router


def _add_accounts(router: APIRouter, billing: Billing) -> None:
    shape = AccountShape

    @router.post(
        "/accounts", status_code=201, response_model=shape, responses={**WRITE, 201: TAGGED}
    )
    async def open_account(new: NewAccount, response: Response) -> Account:
        """Open an account of an organization; its address is in ``location``."""
        account = await billing.open(organization_id=new.organization_id, name=new.name)
        if account is None:
            where = ("body", "organization_id")
            fault = {"loc": where, "msg": "there is no such organization", "type": "organization"}
            raise RequestValidationError([fault])
        response.headers["location"] = f"/api/billing/accounts/{account.id}"
        return answered(account, response, shape=shape, missing="")

    @router.get("/accounts", responses=READ)
    async def list_accounts(after: AfterQuery = None, limit: LimitQuery = 50) -> AccountPage:
        """List accounts in the order of their opening, a page at a time."""
        return _accounts(await billing.page(after=cursor_of(after), limit=limit))

    @router.get(
        "/accounts/{account_id}",
        response_model=shape,
        responses={200: TAGGED, **UNCHANGED, **READ, **problems(404)},
    )
    async def get_account(
        account_id: UUID, response: Response, if_none_match: IfNoneMatch
    ) -> Account | Response:
        """Return one account, with its version as ``etag``."""
        found = await billing.get(account_id)
        account = answered(found, response, shape=shape, missing=_missing(account_id))
        return unless_unchanged(account, if_none_match)

    @router.get("/accounts/{account_id}/entries", responses=READ)
    async def list_entries(
        account_id: UUID, after: AfterQuery = None, limit: LimitQuery = 50
    ) -> EntryPage:
        """List the movements of an account; none where there is no such account."""
        return _entries(await billing.entries(account_id, after=cursor_of(after), limit=limit))


def _add_movements(router: APIRouter, billing: Billing) -> None:
    responses = {**WRITE, **problems(404)}

    @router.post(
        "/accounts/{account_id}/credits",
        status_code=201,
        response_model=EntryShape,
        responses=responses,
    )
    async def credit(account_id: UUID, new: Movement) -> Entry:
        """Add money to an account."""
        outcome = await billing.move(
            account_id, kind=EntryKind.CREDIT, amount_cents=new.amount_cents, note=new.note
        )
        return _made(outcome, account_id)

    @router.post(
        "/accounts/{account_id}/charges",
        status_code=201,
        response_model=EntryShape,
        responses=responses,
    )
    async def charge(account_id: UUID, new: Movement) -> Entry:
        """Take money from an account; 409 where it has less."""
        outcome = await billing.move(
            account_id, kind=EntryKind.CHARGE, amount_cents=-new.amount_cents, note=new.note
        )
        return _made(outcome, account_id)

    @router.post("/transfers", status_code=201, response_model=TransferShape, responses=responses)
    async def transfer(new: NewTransfer) -> Transfer:
        """Move money from one account to another in one transaction; 409 where there is less."""
        outcome = await billing.transfer(
            new.source_id, new.target_id, amount_cents=new.amount_cents, note=new.note,
            statement=new.statement,
        )  # fmt: skip
        if isinstance(outcome, UUID):
            raise HTTPException(404, _missing(outcome))
        if isinstance(outcome, Refused):
            raise _refused(outcome)
        return outcome


def _add_organizations(router: APIRouter, billing: Billing) -> None:
    @router.get("/organizations/{organization_id}/accounts", responses=READ)
    async def list_organization_accounts(
        organization_id: UUID, after: AfterQuery = None, limit: LimitQuery = 50
    ) -> AccountPage:
        """List the accounts of an organization; the balances of a page are those of one moment."""
        place = cursor_of(after)
        return _accounts(await billing.page_of(organization_id, after=place, limit=limit))

    @router.get("/organizations/{organization_id}/entries", responses=READ)
    async def list_organization_entries(
        organization_id: UUID, after: AfterQuery = None, limit: LimitQuery = 50
    ) -> EntryPage:
        """List the movements of all accounts of an organization; a page is one moment's."""
        place = cursor_of(after)
        return _entries(await billing.entries_of(organization_id, after=place, limit=limit))


def _accounts(page: Page[Account]) -> AccountPage:
    items = [AccountShape.model_validate(account) for account in page.items]
    return AccountPage(items=items, next=page.next_text)


def _entries(page: Page[Entry]) -> EntryPage:
    items = [EntryShape.model_validate(entry) for entry in page.items]
    return EntryPage(items=items, next=page.next_text)


def _made(outcome: Entry | Refused | None, account_id: UUID) -> Entry:
    if outcome is None:
        raise HTTPException(404, _missing(account_id))
    if isinstance(outcome, Refused):
        raise _refused(outcome)
    return outcome


def _refused(refused: Refused) -> RefusedError:
    current = AccountShape.model_validate(refused.current).model_dump(mode="json")
    return RefusedError(
        409,
        code="balance-limit",
        detail=f"Nothing was moved: {refused.reason}.",
        extra={"current": current},
    )


def _missing(account_id: UUID) -> str:
    return f"There is no account {account_id} here."
