"""The state file: everything the simulator knows, so that a process that was killed goes on where it was.

A journal: one line of JSON for whatever one request (or a few delivered webhooks) changed, written before the answer
and the webhooks leave; of an entry written twice the later one counts. The line is with the operating system when
the request is answered, so a killed process loses nothing. It does not wait for the disk, which would cost
milliseconds on each request: a power failure may lose the last moments, never the order of things. The file is
written anew, without what is outdated, at a start and whenever it has grown far beyond that.
"""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from payments.simulator.clock import HANDLERS
from payments.simulator.parts import Part
from payments.simulator.world import World

Place = tuple[str, str, str]  # account id or "", name of the piece, key

HEADER = b'{"gateway simulator": 1}\n'  # the number is the version of what the lines mean
COUNTERS: Place = ("", "world", "counters")
GROWTH = 4  # the journal may be so many times as long as when it was written anew
ROOM = 64 * 1024 * 1024  # bytes that it may have in any case

_text = json.JSONEncoder(separators=(",", ":"), check_circular=False).encode


class StateRefused(Exception):
    """The file cannot be used; the message says what to do."""


class StateFile:
    """Keeps a world. Its callers hold the world's lock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries = 0  # found by ``take_up``
        self._written: dict[Place, int] = {}  # hash of the text at each place; 0: not known
        path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(path.with_name(path.name + ".lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise StateRefused(f"Another simulator keeps its state in {path}. Name another file.") from None
        self._file = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
        self._end = self._fresh_length = 0

    def take_up(self, world: World) -> None:
        """Put everything kept back into ``world``; with an empty file this changes nothing."""
        kept = self._read()
        if COUNTERS not in kept:
            self.forget()
            return
        counters = kept.pop(COUNTERS)
        world.restart(counters)
        own: dict[str, Part] = {part.kind: part for part in (world.accounts, world.clock.jobs)}
        for (owner, kind, key), value in kept.items():
            if not owner:
                own[kind].restore(key, value)
        accounts = dict(world.accounts.items())
        for (owner, kind, key), value in kept.items():
            if owner:
                accounts[owner].part(kind).restore(key, value)
        unknown = {name for _, name, _ in world.clock.jobs.values()} - set(HANDLERS)
        if unknown:
            raise StateRefused(f"{self.path} has jobs that this version does not know: {', '.join(sorted(unknown))}.")
        world.rebuild(counters)
        world.marks.clear()
        self.entries = len(kept)
        self._written = dict.fromkeys(kept, 0)
        self._rewrite(world)

    def save(self, world: World) -> None:
        """Write what was touched and has changed, as one line."""
        marks = world.marks[:]
        del world.marks[: len(marks)]
        changes = self._changes(marks)
        counters = _text(world.counters())
        if hash(counters) != self._written.get(COUNTERS):
            changes[COUNTERS] = counters
        if not changes:
            return
        try:
            self._append(_line(changes))
        except BaseException:
            world.marks[:0] = marks
            raise
        for place, text in changes.items():
            if text is None:
                del self._written[place]
            else:
                self._written[place] = hash(text)
        if self._end > ROOM + GROWTH * self._fresh_length:
            self._rewrite(world)

    def forget(self) -> None:
        """Throw everything away."""
        self._written.clear()
        os.ftruncate(self._file, 0)
        self._end = 0
        self._append(HEADER)

    def close(self) -> None:
        """Give the file up."""
        os.close(self._file)
        os.close(self._lock)

    def _read(self) -> dict[Place, Any]:
        """Each place's last value, places in the order in which they were first written."""
        raw = self.path.read_bytes()
        if not raw.startswith(HEADER[: len(raw)]):
            raise StateRefused(
                f"{self.path} was not written by this version of the simulator. Remove it to begin with nothing."
            )
        raw = raw[: raw.rfind(b"\n") + 1]  # a line that was not ended was never answered
        self._end = len(raw)
        os.ftruncate(self._file, self._end)
        kept: dict[Place, Any] = {}
        try:
            for line in raw.splitlines()[1:]:
                for account, kind, key, value in json.loads(line):
                    if value is None:
                        kept.pop((account, kind, key), None)
                    else:
                        kept[account, kind, key] = value
        except ValueError as error:
            raise StateRefused(f"{self.path} is damaged ({error}). Remove it to begin with nothing.") from error
        return kept

    def _changes(self, marks: list[tuple[Part, str]]) -> dict[Place, str | None]:
        """The text now at each place that was touched, where it differs; None where there is nothing any more."""
        changes: dict[Place, str | None] = {}
        for (_, key), part in {(id(part), key): part for part, key in marks}.items():
            place = (part.owner, part.kind, key)
            value = part.kept(key)
            if value is None:
                if place in self._written:
                    changes[place] = None
                continue
            text = _text(value)
            if self._written.get(place) != hash(text):
                changes[place] = text
        return changes

    def _append(self, data: bytes) -> None:
        """Write at the end; what could not be written whole is taken back."""
        try:
            done = 0
            while done < len(data):
                done += os.pwrite(self._file, data[done:], self._end + done)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        self._end += len(data)

    def _rewrite(self, world: World) -> None:
        """Put a file with only what counts in the place of the present one."""
        new = self.path.with_name(self.path.name + ".new")
        old, end = self._file, self._end
        self._file, self._end = os.open(new, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600), 0
        try:
            self._append(HEADER)
            for place, value in everything(world).items():
                self._append(_line({place: _text(value)}))
            os.replace(new, self.path)
        except BaseException:
            os.close(self._file)
            self._file, self._end = old, end  # which still has everything
            raise
        os.close(old)
        self._fresh_length = self._end


def everything(world: World) -> dict[Place, Any]:
    """All that a state file of ``world`` has to hold, gathered from the world itself."""
    found = {(part.owner, part.kind, key): part.kept(key) for part in world.parts() for key in part.all_keys()}
    return {**{place: value for place, value in found.items() if value is not None}, COUNTERS: world.counters()}


def _line(changes: dict[Place, str | None]) -> bytes:
    entries = (f"[{_text(place)[1:-1]},{text or 'null'}]" for place, text in changes.items())
    return f"[{','.join(entries)}]\n".encode()
