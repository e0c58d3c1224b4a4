# Files in an object store come back as they were, in whole and in part; what went wrong is said in words, leaves
# nothing behind, and is never taken for success. The server is a real one, which checks every signature.

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from s3_server import ACCESS, SECRET, S3Server
from todoku.protect import object_store, sealing
from todoku.protect.object_store import NoSuchObject, ObjectStore, StoreFailed
from todoku.protect.shelf import DAY, FOLDERS, Link, Shelf
from todoku.settings import StoreCredential

LARGE = bytes(range(256)) * 80_000  # 20 MB: three parts
NOW = time.time()


@pytest.fixture(scope="module")
def the_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("s3"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def server(the_server: S3Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[S3Server]:
    monkeypatch.setenv("SSL_CERT_FILE", str(the_server.authorities))
    credential = tmp_path / "store-credential"
    credential.write_text(f"{ACCESS}\n{SECRET}\n")
    monkeypatch.setattr(object_store, "CREDENTIAL", credential)
    object_store._client.cache_clear()
    yield the_server
    if the_server.process is None:
        the_server.start()
    store = opened(the_server)
    for name, _ in list(store.names()):
        store.remove(name)
    store.remove_incomplete(time.time() + DAY)


def opened(server: S3Server, secret: str = SECRET, bucket: str = "attachments") -> ObjectStore:
    found = object_store.of(server.settings(bucket=bucket), StoreCredential(ACCESS, secret))
    assert found is not None
    return found


@pytest.fixture
def shelf(server: S3Server, tmp_path: Path) -> Shelf:
    for name in FOLDERS:
        (tmp_path / name).mkdir()
    settings = server.settings()
    return Shelf(tmp_path, lambda: object_store.of(settings))


def offered(shelf: Shelf, content: bytes = LARGE) -> tuple[str, Link]:
    given = shelf.give("alice@hoge.example", "x", "en", NOW + DAY, 3)
    given.add("計画.pdf", (content[at : at + 99_999] for at in range(0, len(content), 99_999)))
    token = given.link("carol@mailbox.example")
    given.close()
    link = shelf.find(token, NOW)
    assert link
    return given.token, link


def names(server: S3Server) -> list[str]:
    return [name for name, _ in opened(server).names()]


def incomplete(server: S3Server) -> list[str]:
    try:
        answer = opened(server)._ask("list_multipart_uploads")
    except NoSuchObject:  # how this server says that it never had one
        return []
    return [each["Key"] for each in answer.get("Uploads", ())]


def test_a_file_of_several_parts_is_fetched_in_whole_and_in_part(shelf: Shelf, server: S3Server) -> None:
    _, link = offered(shelf)
    (kept,) = link.files
    assert kept.octets == len(LARGE)
    assert b"".join(shelf.content(kept, 0, kept.octets)) == LARGE
    for start, end in ((0, 1), (65_535, 65_537), (9_000_000, 17_000_000), (len(LARGE) - 3, len(LARGE))):
        assert b"".join(shelf.content(kept, start, end)) == LARGE[start:end]
    assert names(server) == [kept.object]
    assert list((shelf.root / "objects").iterdir()) == []
    (stored,) = (path for path in server.bucket.rglob("*") if path.is_file())
    assert stored.parent.name == "mx.hoge.example"
    assert LARGE[:1000] not in stored.read_bytes()
    assert incomplete(server) == []


@pytest.mark.parametrize("size", [0, 1, sealing.PIECE, sealing.PIECE + 1])
def test_small_files_and_their_edges(shelf: Shelf, size: int) -> None:
    _, link = offered(shelf, b"x" * size)
    (kept,) = link.files
    assert kept.octets == size
    assert b"".join(shelf.content(kept, 0, size)) == b"x" * size


def test_what_was_changed_in_the_store_is_not_handed_out(shelf: Shelf, server: S3Server) -> None:
    _, link = offered(shelf, b"x" * 1000)
    store = opened(server)
    with store.read(link.files[0].object, 0, 1016) as read:
        sealed = bytearray(read(1016))
    sealed[5] ^= 1
    store.put(link.files[0].object, [bytes(sealed)])
    with pytest.raises(sealing.Damaged):
        list(shelf.content(link.files[0], 0, 1000))


def test_revoked_and_expired_files_are_gone_from_the_store(shelf: Shelf, server: S3Server) -> None:
    token, _ = offered(shelf, b"taken back")
    offered(shelf, b"over tomorrow")
    offer = shelf.find_offer(token)
    assert offer
    shelf.revoke(offer)
    assert len(names(server)) == 1
    assert shelf.tidy(NOW) == 0
    assert shelf.tidy(NOW + 2 * DAY) == 1
    assert names(server) == []


def test_what_a_killed_gate_left_is_removed_and_what_others_keep_there_is_not(
    shelf: Shelf, server: S3Server
) -> None:
    store = opened(server)
    store.put("f" * 64, [b"no offer knows it"])
    store._ask("create_multipart_upload", Key=store._key("e" * 64))
    (server.bucket / "other.example").mkdir(exist_ok=True)
    (server.bucket / "other.example" / "f").write_bytes(b"another host's")
    assert shelf.tidy(NOW) == 0  # it may be on its way
    assert len(incomplete(server)) == 1
    assert shelf.tidy(NOW + 2 * DAY) == 1
    assert names(server) == []
    assert incomplete(server) == []
    assert (server.bucket / "other.example" / "f").exists()


def test_files_that_lie_on_the_disk_are_still_handed_out_after_a_change_to_a_store(shelf: Shelf) -> None:
    _, link = offered(Shelf(shelf.root), b"from before")
    assert b"".join(shelf.content(link.files[0], 0, 11)) == b"from before"


def test_content_that_cannot_be_read_leaves_nothing_of_its_upload(shelf: Shelf, server: S3Server) -> None:
    def broken() -> Iterator[bytes]:
        yield LARGE
        raise OSError("the spooled body ends")

    given = shelf.give("alice@hoge.example", "x", "en", NOW + DAY, 3)
    with pytest.raises(OSError, match="spooled body"):
        given.add("a", broken())
    assert names(server) == []
    assert incomplete(server) == []


def test_a_wrong_key_a_missing_bucket_and_a_missing_file_are_said_in_words(server: S3Server) -> None:
    with pytest.raises(StoreFailed, match=r"refuses the key \(SignatureDoesNotMatch.*credential_file"):
        opened(server, "another secret").look()
    for work in (lambda s: s.look(), lambda s: s.put("a", [b"x"]), lambda s: s.put("a", [LARGE])):
        with pytest.raises(StoreFailed, match='has no bucket "elsewhere": make it'):
            work(opened(server, bucket="elsewhere"))
    with pytest.raises(NoSuchObject), opened(server).read("a" * 64, 0, 10):
        pass
    opened(server).remove("a" * 64)  # nothing happens
    opened(server).try_out()
    assert names(server) == []


def test_a_certificate_that_nobody_vouches_for_is_not_believed(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", object_store.AUTHORITIES)
        object_store._client.cache_clear()
        with pytest.raises(StoreFailed, match=r"certificate of the object store \S+ cannot be verified"):
            opened(server).put("a", [b"x"])
    object_store._client.cache_clear()
    assert names(server) == []


def test_a_store_that_is_gone_in_the_middle_fails_and_leaves_nothing_that_counts(
    shelf: Shelf, server: S3Server
) -> None:
    def stopped() -> Iterator[bytes]:
        yield LARGE
        server.stop()
        yield LARGE

    given = shelf.give("alice@hoge.example", "x", "en", NOW + DAY, 3)
    with pytest.raises(StoreFailed, match="does not answer"):
        given.add("a", stopped())
    given.remove()  # cannot reach it either, which is no fault: `tidy` removes it
    with pytest.raises(StoreFailed):
        shelf.tidy(NOW)
    server.start()
    assert names(server) == []


def test_links_open_nothing_any_more_though_the_store_does_not_answer(shelf: Shelf, server: S3Server) -> None:
    token, _ = offered(shelf, b"x")
    offer = shelf.find_offer(token)
    assert offer
    server.stop()
    shelf.revoke(offer)
    assert shelf.is_revoked(offer.id)
    server.start()
    assert len(names(server)) == 1
    assert shelf.tidy(NOW) == 1
    assert names(server) == []


def test_many_at_once(shelf: Shelf, server: S3Server) -> None:
    links: list[Link] = []
    threads = [
        threading.Thread(target=lambda n=n: links.append(offered(shelf, bytes([n]) * 100_000)[1]))  # type: ignore[misc]
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    found = {b"".join(shelf.content(link.files[0], 0, 100_000)) for link in links}
    assert found == {bytes([n]) * 100_000 for n in range(8)}
    assert len(names(server)) == 8
