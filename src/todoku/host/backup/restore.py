"""Restoring a backup: everything is unpacked beside, checked, and only then put in place.

Nothing in an archive is trusted: only plain files and folders below the two roots, each once, each with the checksum
that the manifest has for it. What is put in place is written down first (the decision); whoever finds that note later
goes on with it. So a restore that was killed has either changed nothing, or is finished by the next `todoku` command.
What was there before is kept in `before-restore` below each root, until the next restore.
"""

from __future__ import annotations

import contextlib
import grp
import hashlib
import json
import os
import pwd
import shutil
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import IO, Any

from todoku.host.backup.backup import FORMAT, KEPT, MANIFEST, ROOTS, WORK, BackupError, Manifest, Told
from todoku.host.client import Host

# Whom files belong to who do not exist yet: `todoku apply` makes them, then it gives them what is theirs.
OWNERS = "/var/lib/todoku/.owners-to-be"
_DECISION = f"/{ROOTS[1]}/{WORK}/decision.json"
_LARGEST_MANIFEST = 200_000_000  # bytes: a million messages have one of 130 MB
_BLOCK = 1 << 20
_JOURNALS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True, slots=True)
class Unpacked:
    """A backup that lies beside, checked: put it in place with `put_in_place`, or `discard` it."""

    manifest: Manifest
    entries: tuple[str, ...]  # what is directly below the roots, such as "etc/todoku/secrets"
    owners: Mapping[str, str]  # name -> "user:group", where these do not exist yet


def unpack(host: Host, file: Path, *, passphrase: str = "", identities: tuple[str, ...] = ()) -> Unpacked:
    """Unlock `file`, unpack it beside what is there, and check all of it. Raises BackupError, OSError.

    `identities` are secret keys of age (AGE-SECRET-KEY-1...) or of SSH. On any error nothing is left of it.
    """
    discard(host)
    try:
        for root in ROOTS:
            work = host.real(f"/{root}/{WORK}")
            work.mkdir(mode=0o700, parents=True)
            (work / "new").mkdir()
        archive = host.real(f"/{ROOTS[1]}/{WORK}/archive.tar")
        _unlock(file, archive, passphrase, identities)
        unpacked = _unpack(host, archive)
        archive.unlink()
        return unpacked
    except BaseException:
        discard(host)
        raise


def put_in_place(host: Host, unpacked: Unpacked) -> None:
    """Decide, and do it. Raises OSError; what was decided is then finished by `go_on`."""
    for root in ROOTS:
        _sync(host.real(f"/{root}/{WORK}"))
    decision = host.real(_DECISION)
    written = decision.with_name("decision.partial")
    with written.open("w", encoding="utf-8") as file:
        json.dump({"entries": unpacked.entries, "owners": dict(unpacked.owners)}, file)
        file.flush()
        os.fsync(file.fileno())
    written.rename(decision)
    _flush(decision.parent)
    go_on(host)


def go_on(host: Host) -> bool:
    """Finish what was decided, if anything was. Whether there was something to do. Raises OSError."""
    decision = host.real(_DECISION)
    if not decision.exists():
        return False
    told = json.loads(decision.read_text(encoding="utf-8"))
    for entry in told["entries"]:
        _swap(host, entry)
    if told["owners"]:
        host.replace(OWNERS, json.dumps(told["owners"]).encode(), mode=0o600, owner=_user(), group=_group())
    for root in ROOTS:
        work, kept = host.real(f"/{root}/{WORK}"), host.real(f"/{root}/{KEPT}")
        if (work / "old").exists():
            shutil.rmtree(kept, ignore_errors=True)
            (work / "old").rename(kept)
        _flush(work.parent)
    decision.unlink()
    discard(host)
    return True


def discard(host: Host) -> None:
    """Remove what was unpacked, unless it was decided to put it in place."""
    if host.real(_DECISION).exists():
        raise BackupError(
            "a restore has been decided and is not finished: run any `todoku` command, which goes on"
        )
    for root in ROOTS:
        shutil.rmtree(host.real(f"/{root}/{WORK}"), ignore_errors=True)


def give_to_owners(host: Host) -> None:
    """Give the restored files to those who did not exist then; who still does not, gets nothing. Raises OSError."""
    for name, owner in owners_to_be(host).items():
        user, _, group = owner.partition(":")
        with contextlib.suppress(FileNotFoundError, KeyError):
            uid, gid = pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
            os.chown(host.real(f"/{name}"), uid, gid, follow_symlinks=False)
    host.real(OWNERS).unlink()


def owners_to_be(host: Host) -> dict[str, str]:
    """What is still to be given to whom."""
    content = host.read(OWNERS)
    return {} if content is None else dict(json.loads(content))


def _unlock(file: Path, archive: Path, passphrase: str, identities: tuple[str, ...]) -> None:
    import pyrage

    with file.open("rb") as locked, _new_file(archive) as opened:
        told = Told(opened)
        try:
            if passphrase:
                opened.write(pyrage.passphrase.decrypt(locked.read(), passphrase))
            else:
                pyrage.decrypt_io(locked, told, [_identity(text) for text in identities])
        except (pyrage.DecryptError, OSError) as error:  # an OSError without a number means a damaged stream
            refused = told.error or (error if isinstance(error, OSError) and error.errno else None)
            if refused:
                raise refused from None
            raise BackupError(
                f"{file} cannot be unlocked ({str(error).lower()}): the key or passphrase is another one, or the "
                "file is damaged or incomplete. Nothing was changed"
            ) from None


def _identity(text: str) -> Any:
    import pyrage

    try:
        if "PRIVATE KEY" in text:
            return pyrage.ssh.Identity.from_buffer(text.encode())
        line = next(line for line in text.splitlines() if line.startswith("AGE-SECRET-KEY-"))
        return pyrage.x25519.Identity.from_str(line)
    except (pyrage.IdentityError, StopIteration) as error:
        raise BackupError(
            "the identity file holds no key of age (AGE-SECRET-KEY-1...) or of SSH that is without a passphrase"
        ) from error


def _unpack(host: Host, archive: Path) -> Unpacked:
    sums: dict[str, str] = {}
    entries: dict[str, None] = {}
    owners: dict[str, str] = {}
    folders: list[tuple[Path, int]] = []
    manifest: Manifest | None = None
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                if manifest is not None:
                    raise BackupError(_damaged("something follows the manifest"))
                if member.name == MANIFEST and member.type == tarfile.REGTYPE:
                    manifest = read_manifest(_content(tar, member))
                    continue
                target = _place(host, member, sums, entries)
                if target is None:
                    continue
                if member.type == tarfile.DIRTYPE:
                    target.mkdir(mode=0o700, exist_ok=True)
                    folders.append((target, member.mode & 0o777))
                else:
                    sums[member.name] = _extract(tar, member, target)
                if missing := _give(target, member):
                    owners[member.name] = missing
    except (tarfile.TarError, EOFError, UnicodeError) as error:
        raise BackupError(_damaged(str(error))) from error
    if manifest is None:
        raise BackupError(_damaged("the manifest, which comes last, is missing: it is cut off"))
    if manifest.files != sums:
        wrong = sorted({name for name, _ in manifest.files.items() ^ sums.items()})
        raise BackupError(_damaged(f"these files are not as the manifest says: {', '.join(wrong[:5])}"))
    for folder, mode in folders:
        folder.chmod(mode)
    return Unpacked(manifest, tuple(entries), owners)


def _place(
    host: Host, member: tarfile.TarInfo, seen: Mapping[str, str], entries: dict[str, None]
) -> Path | None:
    """Where a member is unpacked; None for a root itself. Raises BackupError for all that has no business here."""
    name = member.name
    parts = name.split("/")
    if member.type not in (tarfile.REGTYPE, tarfile.DIRTYPE) or member.sparse is not None:
        raise BackupError(_hostile(name, "is neither a plain file nor a folder"))
    if any(part in ("", ".", "..") for part in parts) or "\0" in name:
        raise BackupError(_hostile(name, "leads out of its place"))
    root = next((root for root in ROOTS if name == root or name.startswith(f"{root}/")), None)
    if root is None:
        raise BackupError(_hostile(name, "is not below /etc/todoku or /var/lib/todoku"))
    if name in seen:
        raise BackupError(_hostile(name, "is there twice"))
    if name == root:
        return None
    inside = name.removeprefix(f"{root}/")
    first = inside.partition("/")[0]
    if first in (WORK, KEPT):
        raise BackupError(_hostile(name, "is a place that restoring itself uses"))
    entries[f"{root}/{first}"] = None
    target = host.real(f"/{root}/{WORK}/new/{inside}")
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    return target


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> str:
    """Write the file; returns its SHA-256."""
    source = tar.extractfile(member)
    assert source is not None  # noqa: S101  (it is a plain file)
    total, left = hashlib.sha256(), member.size
    with _new_file(target) as file:
        while block := source.read(min(_BLOCK, left)):
            total.update(block)
            file.write(block)
            left -= len(block)
        if left:
            raise BackupError(_damaged(f"{member.name} is cut off"))
        os.fchmod(file.fileno(), member.mode & 0o777)
    mtime = max(0.0, min(float(member.mtime), 2.0**33))
    os.utime(target, (mtime, mtime))
    return total.hexdigest()


def _give(target: Path, member: tarfile.TarInfo) -> str:
    """Give the file to whom it belonged, by name; "user:group" where they do not exist here yet, else nothing."""
    wanted = f"{member.uname or 'root'}:{member.gname or 'root'}"
    if not member.uname.isascii() or not member.gname.isascii() or len(wanted) > 100:
        raise BackupError(_hostile(member.name, "belongs to a name that cannot be one"))
    try:
        uid, gid = pwd.getpwnam(member.uname or "root").pw_uid, grp.getgrnam(member.gname or "root").gr_gid
    except KeyError:
        return wanted
    if os.geteuid() == 0:
        os.chown(target, uid, gid, follow_symlinks=False)
    return ""


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = tar.extractfile(member)
    if source is None or member.size > _LARGEST_MANIFEST:
        raise BackupError(_damaged("the manifest is none"))
    return source.read()


def read_manifest(content: bytes) -> Manifest:
    """The manifest, from its JSON. Raises BackupError."""
    try:
        told = json.loads(content)
        if told["format"] != FORMAT:
            raise BackupError(
                f"this backup has the format {told['format']!r}, and this version knows {FORMAT}"
            )
        manifest = Manifest(**{field.name: told[field.name] for field in fields(Manifest)})
        texts = (manifest.todoku, manifest.created, manifest.hostname, manifest.schema)
        if not all(isinstance(text, str) for text in (*texts, *manifest.files, *manifest.files.values())):
            raise TypeError("not text")
        float(manifest.state)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise BackupError(_damaged(f"the manifest is none ({type(error).__name__})")) from None
    return manifest


def _swap(host: Host, entry: str) -> None:
    """Keep what is at the place of an entry, and put the new one there; done again, it changes nothing more."""
    root = next(root for root in ROOTS if entry.startswith(f"{root}/"))
    name = entry.removeprefix(f"{root}/")
    work, place = host.real(f"/{root}/{WORK}"), host.real(f"/{entry}")
    new, old = work / "new" / name, work / "old" / name
    if not new.exists():
        return  # it was done before the interruption
    old.parent.mkdir(mode=0o700, exist_ok=True)
    # The journals of a database that is replaced belong to the old one.
    for path in (*(place.with_name(place.name + suffix) for suffix in _JOURNALS), place):
        if os.path.lexists(path):
            path.rename(old.with_name(path.name))
    new.rename(place)


def _new_file(path: Path) -> IO[bytes]:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    return os.fdopen(os.open(path, flags, 0o600), "wb")


def _sync(folder: Path) -> None:
    """Flush everything below a folder to the disk."""
    for path in _walk(folder):
        _flush(path)


def _walk(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)
        yield Path(parent)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _user() -> str:
    return pwd.getpwuid(os.geteuid()).pw_name


def _group() -> str:
    return grp.getgrgid(os.getegid()).gr_name


def _damaged(how: str) -> str:
    return f"the backup is damaged: {how}. Nothing was changed: take another one"


def _hostile(name: str, how: str) -> str:
    return f"the backup is not one that Todoku made: {name[:100]!r} {how}. Nothing was changed"
