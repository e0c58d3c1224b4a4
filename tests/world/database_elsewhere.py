"""A PostgreSQL on another machine than the mail host: with TLS, and only for who shows the password."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from postgresql_server import Server
from todoku.rehearsal.internet.pki import Authority

NAME = "db.hoge.example"
ROLE = "writer"
DATABASES = ("ledger", "campaign")


@dataclass
class Elsewhere:
    server: Server
    authority: Path  # PEM

    def change_password(self, password: str) -> None:
        """And nobody stays who showed the old one."""
        quoted = password.replace("'", "''")
        self.server.run("psql", "-qc", f"ALTER ROLE {ROLE} PASSWORD '{quoted}'")
        cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'writer'"
        self.server.run("psql", "-qAtc", cut, "-o", "/dev/null")

    def asked(self, database: str, question: str) -> list[str]:
        """The lines of the answer, columns separated by |."""
        kept = self.server.folder / "answer"
        self.server.run("psql", "-qAt", "-d", database, "-o", str(kept), "-c", question)
        return kept.read_text().splitlines()

    def connected(self, database: str) -> bool:
        """Whether somebody is, and everybody as the role and through TLS."""
        question = "SELECT usename, ssl FROM pg_stat_activity JOIN pg_stat_ssl USING (pid)"
        question += f" WHERE client_addr IS NOT NULL AND datname = '{database}'"
        return set(self.asked(database, question)) == {f"{ROLE}|t"}


@contextmanager
def elsewhere(inside: tuple[str, ...], address: str, password: str) -> Iterator[Elsewhere]:
    """Started by `inside` ("ip netns exec NAME", or nothing), at that address."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parts[-2]))
    assert found, "there is no PostgreSQL: script/setup --dev installs it"
    folder = Path(tempfile.mkdtemp(prefix="todoku-pg-", dir="/tmp"))
    server = Server(folder, found[-1], durable=True, inside=inside, listens=address)
    try:
        authority = Authority.create(folder / "authority")
        server.make()
        cluster = folder / "cluster"
        for made, wanted in zip(authority.issue([NAME], folder / "authority"), ("crt", "key"), strict=True):
            shutil.copyfile(made, cluster / f"server.{wanted}")
            (cluster / f"server.{wanted}").chmod(0o600)
            shutil.chown(cluster / f"server.{wanted}", "postgres")
        (cluster / "pg_hba.conf").write_text(
            f"local all postgres trust\nhostssl ledger,campaign {ROLE} all scram-sha-256\n"
        )
        with (cluster / "postgresql.conf").open("a") as file:
            file.write("ssl = on\npassword_encryption = scram-sha-256\n")
        server.start()
        server.run("createuser", ROLE)
        for name in DATABASES:
            server.run("createdb", f"--owner={ROLE}", name)
        there = Elsewhere(server, authority.certificate_path)
        there.change_password(password)
        yield there
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)
