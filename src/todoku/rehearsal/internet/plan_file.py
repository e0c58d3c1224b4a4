"""An `InternetPlan` as a JSON file, for the processes that get it from its maker. It holds secrets."""

from __future__ import annotations

from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from todoku.rehearsal.internet.plan import InternetPlan

_adapter = TypeAdapter(InternetPlan)


class PlanUnreadable(Exception):
    """The file is not there, readable by others, or no plan."""


def dump(plan: InternetPlan) -> str:
    """As JSON text; write it with mode 0600."""
    return _adapter.dump_json(plan, indent=1).decode()


def load(text: str) -> InternetPlan:
    """Raises `PlanUnreadable`, which does not repeat what stands in the text."""
    try:
        return _adapter.validate_json(text)
    except ValidationError as problem:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in problem.errors()[:5])
        raise PlanUnreadable(f"not a rehearsal plan: {where}") from None


def read(path: Path) -> InternetPlan:
    """Load from a file that only its owner can read. Raises `PlanUnreadable`."""
    try:
        if path.stat().st_mode & 0o077:
            raise PlanUnreadable(f"{path} holds secrets and others can read it; run: chmod 600 {path}")
        return load(path.read_text(encoding="utf-8"))
    except OSError as problem:
        raise PlanUnreadable(f"{path}: {problem.strerror}; is the rehearsal running?") from problem
