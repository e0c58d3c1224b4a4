"""Archives as strangers send them."""

from __future__ import annotations

import io
import os
import zipfile
import zlib

import pyzipper


def aes(files: dict[str, bytes], password: bytes = b"pw") -> bytes:
    made = io.BytesIO()
    with pyzipper.AESZipFile(
        made, "w", compression=pyzipper.ZIP_DEFLATED, encryption=pyzipper.WZ_AES
    ) as archive:
        archive.setpassword(password)
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def plain(files: dict[str, bytes], how: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", how) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def zip_crypto(content: bytes, password: bytes = b"pw", name: bytes = b"a.txt") -> bytes:
    """The encryption that Windows writes (APPNOTE.TXT 6.1), which Python only reads."""
    keys = [0x12345678, 0x23456789, 0x34567890]

    def update(octet: int) -> None:
        keys[0] = _crc(octet, keys[0])
        keys[1] = ((keys[1] + (keys[0] & 0xFF)) * 134775813 + 1) & 0xFFFFFFFF
        keys[2] = _crc(keys[1] >> 24, keys[2])

    def encrypt(octet: int) -> int:
        mask = (keys[2] & 0xFFFF) | 2
        made = octet ^ (((mask * (mask ^ 1)) >> 8) & 0xFF)
        update(octet)
        return made

    for octet in password:
        update(octet)
    crc = zlib.crc32(content)
    sealed = bytes(map(encrypt, [*os.urandom(11), crc >> 24, *content]))
    sizes = crc.to_bytes(4, "little") + len(sealed).to_bytes(4, "little") + len(content).to_bytes(4, "little")
    fields = b"\x14\0\x01\0\0\0" + bytes(4) + sizes + len(name).to_bytes(2, "little") + b"\0\0"
    local = b"PK\x03\x04" + fields + name + sealed
    entry = b"PK\x01\x02\x14\0" + fields + bytes(14) + name
    end = b"PK\x05\x06" + bytes(4) + b"\x01\0\x01\0"
    return local + entry + end + len(entry).to_bytes(4, "little") + len(local).to_bytes(4, "little") + b"\0\0"


def _crc(octet: int, crc: int) -> int:
    return _TABLE[(crc ^ octet) & 0xFF] ^ (crc >> 8)


def _entry(number: int) -> int:
    for _ in range(8):
        number = (number >> 1) ^ 0xEDB88320 if number & 1 else number >> 1
    return number


_TABLE = [_entry(number) for number in range(256)]
