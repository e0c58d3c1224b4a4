"""Inside the world: start its internet, run the production apply on the host, then play the scenario or run the
command that was asked for. Started by init.py as `python -m todoku.rehearsal.play TASK_FD`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from todoku.rehearsal import scenario, verdict
from todoku.rehearsal.internet import zones
from todoku.rehearsal.machine import machine
from todoku.rehearsal.world import World, WorldFailed


def work(task: dict[str, Any]) -> int:
    """Returns the exit code of the rehearsal, or of the command."""
    try:
        world = World.build(task)
    except (WorldFailed, machine.WorldImpossible, zones.NameTakenError) as failed:
        print(f"The rehearsal failed: {failed}", file=sys.stderr)
        if task["json"]:
            print(json.dumps(verdict.failed(str(failed))), flush=True)
        return 1
    if task["command"]:
        return _run(task["command"], world)
    outcome = scenario.play(world)
    if task["json"]:
        print(json.dumps(verdict.as_json(outcome), ensure_ascii=False), flush=True)
    else:
        verdict.show(outcome)
    return 0 if outcome.ok else 1


def _run(command: list[str], world: World) -> int:
    try:
        process = subprocess.Popen(command, env=world.environment)
    except FileNotFoundError:
        print(f"{command[0]}: no such command in the world", file=sys.stderr)
        return 127
    except PermissionError:
        print(f"{command[0]}: cannot be executed", file=sys.stderr)
        return 126
    while True:
        try:
            code = process.wait()
        except KeyboardInterrupt:
            continue  # the command has heard it too, and decides for itself
        return 128 - code if code < 0 else code


def main(task_fd: int) -> int:
    with os.fdopen(task_fd) as said:
        task = json.load(said)
    try:
        return work(task)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
