# "I pressed reset in the middle of it." Whatever the moment, applying again finishes the work, and the
# service is restarted although its file is no longer different.

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from plan_resources import Daemon, TextFile, die, history, items

from todoku.plan.apply import apply
from todoku.plan.journal import Journal
from todoku.plan.plan import make

STEPS = ["file:a", "file:b", "service:mail"]


@dataclass(frozen=True)
class DeadlyFile(TextFile):
    when: str = ""

    def change(self, change, client):
        if self.when == "before":
            die()
        super().change(change, client)
        if self.when == "after":
            die()


@dataclass(frozen=True)
class DeadlyDaemon(Daemon):
    when: str = ""

    def change(self, change, client):
        if self.when == "before":
            die()
        super().change(change, client)
        if self.when == "after":
            die()


def resources(folder, at="", when=""):
    def moment(name):
        return when if at == name else ""

    return items(
        folder,
        DeadlyFile("a", "new\n", when=moment("file:a")),
        DeadlyFile("b", "new\n", after={"file:a"}, when=moment("file:b")),
        DeadlyDaemon("mail", {"file:a", "file:b"}, when=moment("service:mail")),
    )


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", STEPS)
def test_killed_at_any_step_the_next_apply_finishes_the_work(tmp_path, at, when):
    (tmp_path / "mail.running").touch()
    (tmp_path / "a").write_text("old\n")
    here = Path(__file__)
    killed = subprocess.run([sys.executable, here, tmp_path, at, when], cwd=here.parent, check=False)
    assert killed.returncode == -9
    before = history(tmp_path)
    assert before == STEPS[: STEPS.index(at) + (when == "after")]

    journal = Journal(tmp_path / "journal")
    assert not make(resources(tmp_path), journal).empty
    outcome = apply(resources(tmp_path), lambda _: None, journal=journal)

    assert outcome.ok
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text() == "new\n"
    assert history(tmp_path)[-1] == "service:mail"
    assert make(resources(tmp_path), Journal(tmp_path / "journal")).empty


def test_a_journal_whose_last_line_was_cut_is_read_up_to_it(tmp_path):
    path = tmp_path / "journal"
    journal = Journal(path)
    journal.changed("file:a")
    with path.open("a") as file:
        file.write('["follow')

    assert Journal(path).owed("service:mail", {"file:a", "file:b"}) == {"file:a"}


def test_what_is_noted_after_a_cut_line_is_not_lost(tmp_path):
    path = tmp_path / "journal"
    path.write_text('["follow')
    Journal(path).changed("file:a")

    assert Journal(path).owed("service:mail", {"file:a"}) == {"file:a"}


def test_a_journal_that_was_cleared_owes_nothing_and_leaves_no_file(tmp_path):
    journal = Journal(tmp_path / "journal")
    journal.changed("file:a")
    journal.clear()

    assert journal.owed("service:mail", {"file:a"}) == frozenset()
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    folder, at, when = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    apply(resources(folder, at, when), lambda _: None, journal=Journal(folder / "journal"))
