"""How Postfix and Dovecot judge a configuration before it replaces the one that works."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from todoku.host.client import Completed, Host
from todoku.host.rendered import RenderedFile

# Tables that are read from the text itself when a process starts; and those that are compiled beforehand.
_TEXT_TABLES = ("cidr", "pcre", "regexp", "texthash")
_COMPILED = {"lmdb": ".lmdb", "hash": ".db", "btree": ".db", "cdb": ".cdb"}
_TABLE = re.compile(rf"\b({'|'.join((*_TEXT_TABLES, *_COMPILED))}):(/[^\s,{{}}]+)")


@dataclass(frozen=True, slots=True)
class PostfixValidation:
    """postconf, postmap and `postfix check`, each without a word of complaint.

    Warnings count: Postfix reports a parameter that it does not know, or a line in a table that it does not
    understand, as a warning, and goes on without. A table that is missing is found out only when mail
    arrives, so those in the daemon's own folder have to be there. (Those of the directory are made later,
    as postmap needs a main.cf.)
    """

    def problems(self, host: Host, stage: str, folder: str, files: tuple[RenderedFile, ...]) -> list[str]:
        # postmap tells a number that is none: `postfix check` of 3.7 then ends with code 1 and no word, where
        # nothing listens on /dev/log.
        found = [
            *_complaints(host.run(["postconf", "-c", stage, "-n"], check=False)),
            *_complaints(host.run(["postmap", "-c", stage, "-q", "todoku", "static:todoku"], check=False)),
        ]
        found = found or list(self._tables(host, stage, folder, files))
        if found:
            return found
        checked = host.run(["postfix", "-c", stage, "check"], check=False)
        # Debian's prints what it copies into the chroot: only a failure counts here.
        return [f"postfix check: {checked.words or 'failed without a word'}"] if checked.code else []

    def _tables(self, host: Host, stage: str, folder: str, files: tuple[RenderedFile, ...]) -> Iterator[str]:
        own = {file.path for file in files}
        named = [(kind, path) for kind, path in _named_tables(files) if path.startswith(f"{folder}/")]
        for kind, path in sorted(named):
            compiled = path + _COMPILED.get(kind, "")
            if path in own and kind in _TEXT_TABLES:
                table = f"{kind}:{stage}{path.removeprefix(folder)}"
                # Code 1 only says that the key is not in there.
                asked = host.run(["postmap", "-c", stage, "-q", "todoku", table], check=False)
                yield from asked.stderr.splitlines()
            elif path not in own and host.stat(compiled) is None:
                yield f"{kind}:{path} is used, but there is no {compiled}"


@dataclass(frozen=True, slots=True)
class DovecotValidation:
    """`doveconf -n`, which reads the files named in the configuration (the certificate) as well."""

    def problems(
        self,
        host: Host,
        stage: str,
        folder: str,  # noqa: ARG002
        files: tuple[RenderedFile, ...],  # noqa: ARG002
    ) -> list[str]:
        done = host.run(["doveconf", "-n", "-c", f"{stage}/dovecot.conf"], check=False)
        bad = [line for line in done.stderr.splitlines() if "Error:" in line or "Fatal:" in line]
        if done.code and not bad:
            return [f"doveconf ended with code {done.code}: {done.words}"]
        return bad


def _complaints(done: Completed) -> list[str]:
    if done.code and not done.stderr.strip():
        return [f"{done.args[0]} ended with code {done.code}"]
    return [line for line in done.stderr.splitlines() if line.strip()]


def _named_tables(files: tuple[RenderedFile, ...]) -> set[tuple[str, str]]:
    """The tables that the settings in `files` name, as (type, path)."""
    lines = (line for file in files if file.path.endswith(".cf") for line in file.content.splitlines())
    return {
        (str(kind), str(path))
        for line in lines
        if not line.lstrip().startswith("#")
        for kind, path in _TABLE.findall(line)
    }
