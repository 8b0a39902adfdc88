"""Answers outside of any view: what the API says as problem documents, pages say as pages."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template import loader

from billing.context import correlation_id

FOR_PROGRAMS = ("/api/", "/webhooks/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: the request cannot be read."""
    return refused(request, status=400, code="bad_request", detail="The request cannot be read.")


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """403: signed in, but not allowed; what is missing, where the refusal names it."""
    return refused(
        request, status=403, code="permission_denied", detail=str(exception) or "You may not see or do this."
    )


def form_not_ours(request: HttpRequest, reason: str = "") -> HttpResponse:
    """403: a form without the mark that the browser got with it; what ``reason`` says is for developers, and in the log."""
    detail = (
        "Nothing was changed. The form came without the mark that this site gives each browser: cookies are off, or you "
        "signed in or out meanwhile. Go back, load the page again and send it once more."
    )
    return refused(request, status=403, code="form_expired", detail=detail)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: no such address; on a page of the console whose row is not there, what was looked for and the way to its list."""
    back = getattr(exception, "back", None)  # a NoSuchRow, whose module loads the console
    if back is not None:
        return refused(request, status=404, code="not_found", detail=str(exception), back=back)
    return refused(request, status=404, code="not_found", detail="There is nothing at this address.")


def server_error(request: HttpRequest) -> HttpResponse:
    """500: our fault, with the id under which it is in the log."""
    detail = "Something went wrong on our side; it is noted under the correlation id."
    return refused(request, status=500, code="server_error", detail=detail)


def refused(
    request: HttpRequest,
    *,
    status: int,
    code: str,
    detail: str,
    retry_after: int | None = None,
    back: tuple[str, str] | None = None,
) -> HttpResponse:
    """The refusal as a problem document for programs, as a page for people; it asks the database for nothing.

    ``back``: words and address of where a person goes on from the page.
    """
    body: dict[str, Any] = {
        "type": f"https://munim.example/problems/{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if correlation_id():
        body["correlation_id"] = correlation_id()
    answer: HttpResponse
    if request.path.startswith(FOR_PROGRAMS):
        answer = JsonResponse(body, status=status, content_type="application/problem+json")
    else:
        answer = HttpResponse(loader.get_template("problem.html").render({**body, "back": back}), status=status)
    if retry_after is not None:
        answer["Retry-After"] = str(retry_after)
    return answer
