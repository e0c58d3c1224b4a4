"""The HTTP server and the signatures: nothing hostile gets further than a refusal, and only what is truly signed,
now, by a known key, is carried out."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import socket
import ssl
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from cloud_side import Side, side_fixture  # noqa: F401
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding
from hypothesis import given
from hypothesis import strategies as st

from todoku.rehearsal.cloud.http_server import BadRequest, HttpServer, Request, body_length, parse_head
from todoku.rehearsal.cloud.policies import parse
from todoku.rehearsal.internet import pki
from todoku.rehearsal.smtp.session import Listen

TOKEN = st.text("abcXYZ019-_.", min_size=1, max_size=12)
VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=40)


@given(st.binary(max_size=400))
def test_any_octets_are_a_request_or_a_bad_request(octets: bytes):
    try:
        request = parse_head(octets + b"\r\n\r\n")
    except BadRequest:
        return
    assert request.headers["host"] is not None
    assert request.target.startswith("/")


@given(TOKEN, VALUE, st.dictionaries(TOKEN.map(lambda name: f"x-{name}"), VALUE, max_size=8))
def test_a_head_is_read_as_it_was_written(method: str, path: str, fields: dict[str, str]):
    unique = {name.lower(): value for name, value in fields.items()}
    lines = [f"{method} /{path} HTTP/1.1", "Host: h.example", *(f"{k}:  {v} " for k, v in unique.items())]
    request = parse_head("\r\n".join(lines).encode() + b"\r\n\r\n")
    assert (request.method, request.target) == (method, f"/{path}")
    assert {name: value for name, value in request.headers.items() if name != "host"} == unique


@given(st.text(max_size=80))
def test_any_text_is_a_statement_or_a_value_error(text: str):
    for statement in (text, f"Allow group {text} to use email-family in tenancy where {text}"):
        try:
            parse(statement)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("head", "status", "words"),
    [
        ("GET / HTTP/1.0\r\nHost: h", 505, "HTTP/1.1"),
        ("GET http://h/ HTTP/1.1\r\nHost: h", 400, "first line"),
        ("GET / HTTP/1.1", 400, "Host is missing"),
        ("GET / HTTP/1.1\r\nHost: h\r\nHost: i", 400, "host is there twice"),
        ("GET / HTTP/1.1\r\nHost: h\r\n folded", 400, "not a header field"),
        ("GET / HTTP/1.1\r\nHost: h\r\nx : y", 400, "not a header field"),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 1",
            400,
            "content-length is there twice",
        ),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: +1", 400, "has to be a number"),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9999999", 413, "shorter"),
        ("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked", 411, "Content-Length"),
        ("GET / HTTP/1.1\r\nHost: h\r\n" + "\r\n".join(["x: y"] * 100), 431, "fields"),
    ],
)
def test_what_is_not_understood_is_refused_with_its_reason(head: str, status: int, words: str):
    with pytest.raises(BadRequest, match=words) as caught:
        body_length(parse_head(head.encode() + b"\r\n\r\n"))
    assert caught.value.status == status


def test_path_and_query_are_decoded_after_they_were_split():
    request = parse_head(b"GET /a%2Fb/c?x=1%262&y= HTTP/1.1\r\nHost: H.Example:443\r\n\r\n")
    assert request.segments == ("a/b", "c")
    assert request.query == {"x": "1&2", "y": ""}
    assert request.host == "h.example"


def test_an_endless_head_and_a_wrong_one_end_the_connection():
    async def scene() -> None:
        async def handle(request: Request) -> Any:
            raise AssertionError

        server = HttpServer("a test", Listen("127.0.0.1", 0), None, handle)
        await server.start()
        try:
            for octets in (b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 40_000, b"\x16\x03\x01\r\n\r\n"):
                reader, writer = await asyncio.open_connection(server.listen.host, server.listen.port)
                writer.write(octets)
                answer = await asyncio.wait_for(reader.read(), 5)
                assert answer.startswith((b"HTTP/1.1 431", b"HTTP/1.1 400"))
                assert b"Connection: close" in answer
                writer.close()
        finally:
            await server.stop()

    asyncio.run(scene())


# -- signatures


def send(side: Side, octets: bytes) -> tuple[int, dict[str, Any]]:
    context = ssl.create_default_context(cafile=side.ca)
    listen = side.cloud.rest.listen
    with (
        socket.create_connection((listen.host, listen.port), 5) as raw,
        context.wrap_socket(raw, server_hostname="identity.ap-tokyo-1.oci.oraclecloud.com") as wire,
    ):
        wire.sendall(octets)
        received = b""
        while part := wire.recv(65536):
            received += part
    head, _, body = received.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


def request(side: Side, **wrong: Any) -> bytes:
    """A signed request by hand (the signatures page's recipe), with something wrong in it."""
    method, body = wrong.get("method", "GET"), wrong.get("body", b"")
    target = f"/20160918/users?compartmentId={side.config.tenancy}"
    fields = {
        "host": "identity.ap-tokyo-1.oci.oraclecloud.com",
        wrong.get("dated", "date"): formatdate(wrong.get("time"), usegmt=True),
    }
    if method == "POST":
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        fields |= {
            "content-length": str(len(body)),
            "content-type": "application/json",
            "x-content-sha256": digest,
        }
    names = wrong.get("names") or ["(request-target)", *fields]
    values = fields | {"(request-target)": f"{method.lower()} {target}"}
    text = "\n".join(f"{name}: {values[name]}" for name in names).encode()
    config = side.sdk_config()
    pem = wrong.get("pem") or Path(config["key_file"]).read_text()
    key: Any = serialization.load_pem_private_key(pem.encode(), None)
    signature = base64.b64encode(key.sign(text, padding.PKCS1v15(), hashes.SHA256())).decode()
    key_id = wrong.get("key_id") or f"{config['tenancy']}/{config['user']}/{config['fingerprint']}"
    fields["authorization"] = (
        f'Signature version="1",keyId="{key_id}",algorithm="{wrong.get("algorithm", "rsa-sha256")}",'
        f'headers="{" ".join(names)}",signature="{signature}"'
    )
    fields |= wrong.get("fields", {})
    lines = [
        f"{method} {target} HTTP/1.1",
        "connection: close",
        *(f"{k}: {v}" for k, v in fields.items() if v),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + wrong.get("sent", body)


def test_a_request_signed_by_the_recipe_of_the_signatures_page_is_taken(side: Side):
    for wrong in ({}, {"dated": "x-date"}, {"time": __import__("time").time() - 200}):
        status, users = send(side, request(side, **wrong))
        assert (status, len(users)) == (200, 1)


def test_only_what_is_truly_signed_now_by_a_known_key_is_taken(side: Side):
    import time

    config = side.sdk_config()
    digest = base64.b64encode(hashlib.sha256(b"{}").digest()).decode()
    wrongs: list[dict[str, Any]] = [
        {"pem": pki.generate_dkim_key()},
        {"key_id": f"{config['tenancy']}/{config['user']}/00:11"},
        {"key_id": "ST$nonsense"},
        {"algorithm": "hmac-sha256"},
        {"names": ["date", "host"]},
        {"names": ["date", "(request-target)"]},
        {"fields": {"authorization": "Bearer x"}},
        {"fields": {"authorization": ""}},
        {"fields": {"date": formatdate(usegmt=True, timeval=time.time() + 20)}},
        {"method": "POST", "body": b"{}", "sent": b"[]"},
        {"method": "POST", "body": b"{}", "names": ["date", "(request-target)", "host"]},
        {"method": "POST", "body": b"{}", "fields": {"x-content-sha256": digest[::-1]}},
    ]
    for wrong in wrongs:
        status, said = send(side, request(side, **wrong))
        assert (status, said["code"]) == (401, "NotAuthenticated"), wrong
    for seconds in (-310, 310):
        status, said = send(side, request(side, time=time.time() + seconds))
        assert status == 401
        assert "is not within allowed clock skew" in said["message"]


def test_a_region_without_subscription_does_not_know_the_tenancy(side: Side):
    octets = request(side).replace(b"identity.ap-tokyo-1", b"identity.eu-paris-1")
    assert send(side, octets)[0] == 401


def test_a_service_answers_under_its_own_name_only(side: Side):
    for service in (b"dns", b"ctrl.email", b"identity.ctrl.email"):
        octets = request(side).replace(b"identity.ap-tokyo-1", service + b".ap-tokyo-1")
        status, said = send(side, octets)
        assert (status, said["code"]) == (404, "NotAuthorizedOrNotFound"), service
