"""The questions and changes that the directory has for the store, each on the caller's connection."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime

from sqlalchemy import Connection, delete, insert, select, update

from todoku.directory.people import Account, Alias, Held
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
    return Held(
        tuple(sorted(accounts, key=lambda account: account.address)),
        tuple(Alias(address, tuple(each)) for address, each in targets.items()),
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
    """Remove an account; its addresses go with it."""
    connection.execute(delete(schema.account).where(schema.account.c.login == login))


def add_address(connection: Connection, login: str, address: str) -> None:
    """Give an account one more address."""
    number = select(schema.account.c.id).where(schema.account.c.login == login).scalar_subquery()
    connection.execute(insert(schema.address).values(address=address, account_id=number, is_primary=False))


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
