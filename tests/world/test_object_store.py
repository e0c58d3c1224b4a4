# Attachments lie in an object store, not on this host's disk: a real S3 server with TLS, which checks each signature.
# While it cannot be used, a message is held back and nothing of it is sent, and everybody who asks is told why.

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path

import pytest
from conftest import CONFIG, World
from test_protect import Browser, code, copies, link_in, send, submit, written

from s3_server import ACCESS, BUCKET, SECRET, S3Server

AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")
CREDENTIAL = Path("/etc/todoku/secrets/test-object-store")
POLICY = """
[protect]
on = true
page_port = 8443
[protect.store]
endpoint = "{endpoint}"
region = "ap-tokyo-1"
bucket = "{bucket}"
credential_file = "{credential}"
"""


@pytest.fixture(scope="module")
def store(the_world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    server = S3Server(tmp_path_factory.mktemp("store"))
    server.start()
    before, trusted = CONFIG.read_text(), AUTHORITIES.read_bytes()
    AUTHORITIES.write_bytes(trusted + server.authorities.read_bytes())
    key(SECRET)
    policy = POLICY.format(endpoint=server.endpoint, bucket=BUCKET, credential=CREDENTIAL)
    CONFIG.write_text(before.replace("\n[protect]\n", policy))
    the_world.apply()
    yield server
    CONFIG.write_text(before)
    the_world.apply()
    CREDENTIAL.unlink()
    AUTHORITIES.write_bytes(trusted)
    server.stop()


def key(secret: str) -> None:
    CREDENTIAL.touch(0o600)
    CREDENTIAL.write_text(f"{ACCESS}\n{secret}\n")


def stored(server: S3Server) -> list[Path]:
    return [path for path in server.bucket.rglob("*") if path.is_file()]


def finding(world: World) -> dict[str, str]:
    done = world.todoku("check", "host", "--json")
    (found,) = [each for each in json.loads(done.stdout)["findings"] if each["rule"] == "host.object_store"]
    return found  # type: ignore[no-any-return]


def large(world: World, subject: str) -> EmailMessage:
    message = written(world, [world.carol], subject)
    message.add_attachment(os.urandom(9_000_000), "application", "zip", filename="large.zip")  # two parts
    return message


def test_from_the_mail_to_the_file_and_away_again(store: S3Server, world: World) -> None:
    sent = large(world, "into the store")
    assert submit(world, sent, [world.carol]).code == 250
    assert len(stored(store)) == 2
    assert list(Path("/var/lib/todoku/protect/objects").iterdir()) == []
    given = Path("/var/lib/todoku/protect/store-credential").stat()
    assert given.st_mode & 0o777 == 0o640
    link = link_in(world.wait_for("into the store").message)
    browser = Browser(world)
    assert browser.ask("POST", f"{link}/open", {"code": code(world, link)}).status == 303
    pdf, packed = (part.get_content() for part in sent.iter_attachments())
    assert browser.ask("GET", f"{link}/0").read() == pdf
    assert browser.ask("GET", f"{link}/1").read() == packed
    assert finding(world)["verdict"] == "pass"
    store.stop()
    try:
        held = submit(world, large(world, "held, as the store is gone"), [world.carol])
        assert (held.code, held.text.split()[0]) == (451, "4.3.0")
        assert "their store does not take them" in held.text
        assert browser.ask("GET", f"{link}/0").status == 503
        assert finding(world)["verdict"] == "fail"
    finally:
        store.start()
    offers = json.loads(world.todoku("protect", "list", "--json").stdout)["offers"]
    (offer,) = [each["id"] for each in offers if each["subject"] == "into the store"]
    done = world.todoku("protect", "revoke", offer)
    assert done.returncode == 0, done.stdout + done.stderr
    assert stored(store) == []
    assert not copies(world, "held, as the store is gone")


def test_a_wrong_key_is_told_by_the_plan_and_holds_messages_back(store: S3Server, world: World) -> None:
    key("not the secret")
    try:
        planned = world.todoku("plan")
        assert "refuses the key (SignatureDoesNotMatch" in planned.stdout + planned.stderr
        assert "not the secret" not in planned.stdout + planned.stderr
    finally:
        key(SECRET)
    given = Path("/var/lib/todoku/protect/store-credential")
    before = given.read_text()
    given.write_text(f"{ACCESS}\nnot the secret\n")
    try:
        held = submit(world, written(world, [world.carol], "held, as the key is wrong"), [world.carol])
        assert held.code == 451, held
    finally:
        given.write_text(before)
    send(world, [world.carol], "and the next one goes")
    world.wait_for("and the next one goes")
    assert not copies(world, "held, as the key is wrong")
