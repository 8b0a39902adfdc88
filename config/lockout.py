"""Who has tried too many passwords does not sign in for a while, not even with the right one.

Counted by the name that was tried and the address it was tried from, over the API and the console alike.
"""

from typing import Any

from django.conf import settings
from django.http import HttpRequest, HttpResponse

from config import answers


def username(request: HttpRequest, credentials: dict[str, Any] | None = None) -> str:
    """The name that was tried, as people are known by: small letters."""
    given = (credentials or {}).get("username") or request.POST.get("username") or ""
    return str(given).lower()[:254]


def answer(request: HttpRequest, original: HttpResponse | None = None, credentials: Any = None) -> HttpResponse:
    """What is answered while nobody may sign in."""
    wait = settings.AXES_COOLOFF_TIME
    detail = (
        f"Too many wrong passwords for this name. Nobody signs in with it from here for {_minutes(wait)} after the last "
        "of them; an administrator can set a new password meanwhile."
    )
    return answers.refused(
        request, status=429, code="sign_in_locked", detail=detail, retry_after=int(wait.total_seconds())
    )


def _minutes(wait: Any) -> str:
    count = int(wait.total_seconds() // 60)
    return f"{count} minute{'' if count == 1 else 's'}"
