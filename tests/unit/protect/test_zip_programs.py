# A ZIP is of use only if the program that the recipient has opens it: 7-Zip, bsdtar and Python's reader are asked.
# Names are Japanese, in UTF-8 and in CP932; Info-ZIP's unzip knows no AES, and has to say so and write no rubbish.

from __future__ import annotations

import os
import random
import shutil
import subprocess
from pathlib import Path

import pytest
import pyzipper

from todoku.protect import zipping
from todoku.protect.zipping import Entry, Names

PASSWORD = "abcd-efgh-jkmn-pqrs"
FILES = {
    "見積書.pdf": random.Random(1).randbytes(200_003),  # stored
    "一覧 2026.csv": "品名,数量\r\n".encode() * 3000,  # deflated
    "empty.txt": b"",
}
SEVEN_ZIP = shutil.which("7zz") or shutil.which("7z") or ""
BSDTAR = shutil.which("bsdtar") or ""
# `script/setup --dev` installs them: where it has run, nothing is left out.
seven_zip = pytest.mark.skipif(not SEVEN_ZIP, reason="needs 7-Zip (Debian: 7zip or p7zip-full)")
bsdtar = pytest.mark.skipif(not BSDTAR, reason="needs bsdtar (Debian: libarchive-tools)")
both_names = pytest.mark.parametrize("names", ["utf-8", "cp932"])


def archive(folder: Path, names: Names) -> Path:
    path = folder / "attachments.zip"
    entries = [Entry(name, [content[:5], content[5:]]) for name, content in FILES.items()]
    path.write_bytes(b"".join(bytes(piece) for piece in zipping.write(entries, PASSWORD, names=names)))
    return path


def run(*command: str | Path, folder: Path, password: str = PASSWORD) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    return subprocess.run(
        command, cwd=folder, input=f"{password}\n".encode(), capture_output=True, env=environment, check=False
    )


def unpacked(folder: Path) -> dict[bytes, bytes]:
    """The names as the program wrote them, octet by octet."""
    return {os.fsencode(path.name): path.read_bytes() for path in folder.iterdir()}


def expected(names: Names) -> dict[bytes, bytes]:
    return {name.encode(names): content for name, content in FILES.items()}


@seven_zip
@both_names
def test_7_zip_opens_it(tmp_path: Path, names: Names) -> None:
    path, out = archive(tmp_path, names), tmp_path / "out"
    done = run(SEVEN_ZIP, "x", f"-p{PASSWORD}", "-oout", path, folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert unpacked(out) == expected(names)  # here it leaves octets without a flag as they are
    wrong = run(SEVEN_ZIP, "t", "-pwrong", path, folder=tmp_path)
    assert wrong.returncode != 0
    assert b"Wrong password" in wrong.stdout + wrong.stderr


@bsdtar
@both_names
def test_bsdtar_opens_it(tmp_path: Path, names: Names) -> None:
    path, out = archive(tmp_path, names), tmp_path / "out"
    out.mkdir()
    page = ["--options", "hdrcharset=CP932"] if names == "cp932" else []
    done = run(BSDTAR, "-xf", path, "--passphrase", PASSWORD, *page, "-C", "out", folder=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert unpacked(out) == expected("utf-8")
    assert run(BSDTAR, "-xOf", path, "--passphrase", "wrong", folder=tmp_path).returncode != 0


@both_names
def test_pythons_reader_opens_it(tmp_path: Path, names: Names) -> None:
    with pyzipper.AESZipFile(archive(tmp_path, names)) as opened:
        opened.setpassword(PASSWORD.encode())
        found = {
            info.filename if info.flag_bits & 1 << 11 else info.orig_filename.encode("cp437").decode(names):
            opened.read(info)
            for info in opened.infolist()
        }  # fmt: skip
    assert found == FILES


@pytest.mark.skipif(not shutil.which("unzip"), reason="needs Info-ZIP's unzip")
def test_unzip_which_knows_no_aes_says_so_and_writes_nothing(tmp_path: Path) -> None:
    path = archive(tmp_path, "utf-8")
    listed = run("unzip", "-Z1", path, folder=tmp_path)
    assert listed.stdout.decode().splitlines() == list(FILES)
    done = run("unzip", "-P", PASSWORD, "-d", "out", path, folder=tmp_path)
    assert done.returncode == 81  # "unsupported compression method"
    assert b"need PK compat. v5.1" in done.stdout + done.stderr
    assert [each for each in (tmp_path / "out").glob("*") if each.stat().st_size] == []
