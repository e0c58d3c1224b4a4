# The plan sees when the store or what was exported is not as it should be, repairs it, and then sees nothing.

from dataclasses import replace
from pathlib import Path

import pytest
from directory_place import place_in

from todoku import store
from todoku.directory import Directory, DirectoryExport, Place, StoreSchema
from todoku.plan.resource import Action, LookFailed
from todoku.settings import Settings


@pytest.fixture
def export(settings: Settings) -> DirectoryExport:
    return DirectoryExport(settings, frozenset({"package:postfix", "user:vmail"}))


def test_a_new_machine_gets_a_database_and_then_an_export(tmp_path: Path, export: DirectoryExport) -> None:
    place = place_in(tmp_path / "lib")
    schema = StoreSchema(frozenset({"folder:/var/lib/todoku"}))
    assert schema.needs == {"folder:/var/lib/todoku"}
    assert export.needs == {"store:schema", "package:postfix", "user:vmail"}
    first, second = schema.differ(schema.look(place)), export.differ(export.look(place))
    assert first is not None
    assert second is not None
    assert (first.action, second.action) == (Action.CREATE, Action.CREATE)
    assert not list(tmp_path.iterdir())  # looking changes nothing

    schema.change(first, place)
    assert schema.differ(schema.look(place)) is None
    later = export.differ(export.look(place))
    assert later is not None
    export.change(later, place)
    assert export.differ(export.look(place)) is None
    assert (tmp_path / "lib/todoku.sqlite3").stat().st_mode & 0o777 == 0o600


def test_a_machine_without_postfix_or_its_users_is_no_error_for_the_plan(
    place: Place, export: DirectoryExport
) -> None:
    without = replace(place, exporter=replace(place.exporter, postmap=("no-such-postmap",)))
    change = export.differ(export.look(without))
    assert change is not None
    assert "not installed" in change.detail


@pytest.mark.parametrize(
    "name",
    [
        "dovecot.passwd",
        "dovecot.userdb",
        "virtual_mailbox",
        "virtual_alias",
        "sender_login",
        "sender_login.lmdb",
    ],
)
def test_a_file_that_somebody_edited_or_removed_is_written_anew(
    directory: Directory, place: Place, export: DirectoryExport, name: str
) -> None:
    directory.add_account("alice@hoge.example", "correct horse")
    path = place.exporter.folder / name
    for spoil in (
        lambda: path.write_bytes(b"mallory@hoge.example\tmallory\n"),
        path.unlink,
        lambda: path.chmod(0o644),
    ):
        spoil()
        change = export.differ(export.look(place))
        assert change is not None
        assert name in change.summary
        export.change(change, place)
        assert export.differ(export.look(place)) is None


def test_new_settings_are_exported_anew(directory: Directory, place: Place, settings_for) -> None:
    directory.add_account("alice@hoge.example", "correct horse")
    smaller = DirectoryExport(settings_for("hoge.example"))
    change = smaller.differ(smaller.look(place))
    assert change is not None
    assert "-postmaster@xn--wgv71a.example" in change.detail


def test_the_plan_never_shows_a_hash(directory: Directory, place: Place, export: DirectoryExport) -> None:
    directory.add_account("alice@hoge.example", "correct horse")
    hashed = directory.account("alice").password
    assert hashed is not None
    path = place.exporter.folder / "dovecot.passwd"
    for spoiled in (
        path.read_text().replace(hashed, "$argon2id$other"),
        "bob@hoge.example:{PLAIN}secret\n",
        "",
    ):
        path.write_text(spoiled)
        change = export.differ(export.look(place))
        assert change is not None
        assert change.detail
        for secret in ("argon2", "secret", hashed):
            assert secret not in change.detail + change.summary


def test_a_database_of_a_later_version_stops_the_plan_with_what_to_do(place: Place) -> None:
    place.database.write_bytes(b"no database at all, but something else entirely" * 100)
    with pytest.raises(LookFailed, match="backup"):
        StoreSchema().look(place)


def test_the_export_of_an_old_schema_waits_for_its_migration(
    place: Place, export: DirectoryExport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "wanted_revision", lambda: "9999")
    assert "migrated" in export.look(place).missing
