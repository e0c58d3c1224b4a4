"""The questions and changes that the directory has for the store, each on the caller's connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection, ScalarSelect, delete, insert, select, update

from todoku.directory.people import Account, Alias, Grant, Held
from todoku.store import schema


def held(connection: Connection) -> Held:
    """Everything about people, sorted by address."""
    primary: dict[int, str] = {}
    more: defaultdict[int, list[str]] = defaultdict(list)
    for row in connection.execute(select(schema.address).order_by(schema.address.c.address)):
        if row.is_primary:
            primary[row.account_id] = row.address
        else:
            more[row.account_id].append(row.address)
    accounts = [
        Account(row.login, primary[row.id], tuple(more[row.id]), row.quota, row.password, row.created)
        for row in connection.execute(select(schema.account))
    ]
    targets: defaultdict[str, list[str]] = defaultdict(list)
    for row in connection.execute(
        select(schema.alias).order_by(schema.alias.c.address, schema.alias.c.target)
    ):
        targets[row.address].append(row.target)
    grants = connection.execute(
        select(schema.account.c.login, schema.send_as.c.sender)
        .join(schema.send_as, schema.send_as.c.account_id == schema.account.c.id)
        .order_by(schema.account.c.login, schema.send_as.c.sender)
    )
    return Held(
        tuple(sorted(accounts, key=lambda account: account.address)),
        tuple(Alias(address, tuple(each)) for address, each in targets.items()),
        tuple(Grant(row.login, row.sender) for row in grants),
    )


def add_account(connection: Connection, account: Account) -> None:
    """Store a new account with its addresses; the moment of its making is now."""
    number = connection.scalar(
        insert(schema.account)
        .values(
            login=account.login,
            password=account.password,
            quota=account.quota,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        .returning(schema.account.c.id)
    )
    connection.execute(
        insert(schema.address),
        [
            {"address": address, "account_id": number, "is_primary": address == account.address}
            for address in account.addresses
        ],
    )


def set_password(connection: Connection, login: str, password: str) -> None:
    """Replace the hash of an account's password."""
    connection.execute(
        update(schema.account).where(schema.account.c.login == login).values(password=password)
    )


def remove_account(connection: Connection, login: str) -> None:
    """Remove an account; its addresses, and what it was granted, go with it."""
    connection.execute(delete(schema.account).where(schema.account.c.login == login))


def add_address(connection: Connection, login: str, address: str) -> None:
    """Give an account one more address."""
    connection.execute(
        insert(schema.address).values(address=address, account_id=_number(login), is_primary=False)
    )


def remove_address(connection: Connection, address: str) -> None:
    """Take an address away from its account."""
    connection.execute(delete(schema.address).where(schema.address.c.address == address))


def add_alias(connection: Connection, address: str, targets: Iterable[str]) -> None:
    """Add targets to an alias, which begins to exist with the first of them."""
    connection.execute(insert(schema.alias), [{"address": address, "target": target} for target in targets])


def remove_alias(connection: Connection, address: str, targets: Iterable[str]) -> None:
    """Remove targets from an alias, which ends to exist with the last of them."""
    connection.execute(
        delete(schema.alias).where(
            schema.alias.c.address == address, schema.alias.c.target.in_(list(targets))
        )
    )


def add_grant(connection: Connection, grant: Grant) -> None:
    """Let an account send as somebody else."""
    connection.execute(insert(schema.send_as).values(account_id=_number(grant.login), sender=grant.sender))


def remove_grant(connection: Connection, grant: Grant) -> None:
    """Take that back."""
    connection.execute(
        delete(schema.send_as).where(
            schema.send_as.c.account_id == _number(grant.login), schema.send_as.c.sender == grant.sender
        )
    )


def remove_grants_of(connection: Connection, senders: Iterable[str]) -> None:
    """Nobody may send as these any more: whoever gets such an address later is somebody else."""
    connection.execute(delete(schema.send_as).where(schema.send_as.c.sender.in_(list(senders))))


def _number(login: str) -> ScalarSelect[int]:
    return select(schema.account.c.id).where(schema.account.c.login == login).scalar_subquery()
