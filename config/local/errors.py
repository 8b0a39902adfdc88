"""The one error the supervisor tells its user in a sentence instead of a traceback."""


class CannotStart(Exception):
    """Something this machine lacks or a process that did not come up; the message says what to do."""
