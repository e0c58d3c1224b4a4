# A password agreed on with a partner is kept so that the file alone tells nothing.

from __future__ import annotations

from pathlib import Path

import pytest

from todoku.protect.agreed import Agreed, NotReadable


def test_the_nearest_counts_and_the_file_tells_nothing(tmp_path: Path) -> None:
    kept = Agreed(tmp_path / "file", b"secret")
    assert kept.find("eve@partner.example") is None
    kept.set("partner.example", "the one for all")
    kept.set("eve@partner.example", "the one for eve")
    assert kept.find("Eve@Partner.example") == ("eve@partner.example", "the one for eve")
    assert kept.find("x@mail.partner.example") == ("partner.example", "the one for all")
    assert kept.find("x@notpartner.example") is None
    assert b"the one" not in (tmp_path / "file").read_bytes()
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600
    assert kept.all() == ["eve@partner.example", "partner.example"]
    assert kept.remove("eve@partner.example")
    assert not kept.remove("eve@partner.example")
    assert kept.find("eve@partner.example") == ("partner.example", "the one for all")


@pytest.mark.parametrize("password", ["short", "パスワードパスワードパスワード", "with a line\nend in it"])
def test_what_programs_would_read_differently_is_not_taken(tmp_path: Path, password: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        Agreed(tmp_path / "file", b"secret").set("partner.example", password)
    assert not (tmp_path / "file").exists()


def test_one_partners_password_cannot_be_put_in_anothers_place(tmp_path: Path) -> None:
    kept = Agreed(tmp_path / "file", b"secret")
    kept.set("partner.example", "the one for all")
    (tmp_path / "file").write_text((tmp_path / "file").read_text().replace("partner", "another"))
    with pytest.raises(NotReadable, match="set it again"):
        kept.find("eve@another.example")
