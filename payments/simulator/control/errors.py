"""Refusals of the control API."""

from __future__ import annotations


class Refused(Exception):
    """The control API could not do it; ``status`` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
