"""The mail catcher: takes every mail over SMTP and every text over HTTP, sends none on, and shows them on a web page."""

import argparse
import html
import json
import sys
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from config.local import mailbox
from config.local.mailbox import Mailbox, Summary
from config.local.textbox import Text, Textbox

BIGGEST_FORM = 64 * 1024
BIGGEST_MESSAGE = 50 * 1024 * 1024
ROWS = 500
STYLE = """
body{font:15px/1.45 system-ui,sans-serif;margin:0;background:#f6f7f9;color:#1c2430}
header{background:#1c2430;color:#fff;padding:12px 24px;display:flex;gap:24px;align-items:center}
header a{color:#fff;text-decoration:none;font-weight:600}
header input{padding:6px 10px;border-radius:6px;border:0;width:280px}
main{padding:20px 24px;max-width:1200px}
table{border-collapse:collapse;width:100%;background:#fff;border-radius:8px;overflow:hidden}
td,th{padding:8px 12px;text-align:left;border-bottom:1px solid #e6e9ee;vertical-align:top}
th{font-size:13px;color:#5a6676}tr:hover td{background:#f2f6ff}a{color:#2156c9}
iframe{width:100%;height:60vh;border:1px solid #dde2ea;background:#fff;border-radius:8px}
pre{background:#fff;padding:16px;border-radius:8px;border:1px solid #dde2ea;white-space:pre-wrap}
.quiet{color:#5a6676;white-space:nowrap}.file{display:inline-block;margin:4px 12px 4px 0}
"""


class Receiver:
    """What the SMTP server does with a message: keep it."""

    def __init__(self, box: Mailbox) -> None:
        self.box = box

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep the message with the recipients of its envelope."""
        content = envelope.content or b""
        raw = content.encode() if isinstance(content, str) else content
        recipients = ", ".join(envelope.rcpt_tos).replace("\r", "").replace("\n", "")
        number = self.box.add(f"X-RcptTo: {recipients}\r\n".encode() + raw)
        return f"250 kept as {number}"


class Inbox(BaseHTTPRequestHandler):
    """The web page and a small JSON interface for tests."""

    box: Mailbox
    texts: Textbox
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Show the inbox, a message, its HTML, its source, or one of its files."""
        address = urlsplit(self.path)
        parts = [part for part in address.path.split("/") if part]
        search = parse_qs(address.query).get("q", [""])[0]
        account = text_account(address.path)
        if account:
            to = parse_qs(address.query).get("To", [""])[0]
            self._send_json({"messages": [text.resource(account) for text in self.texts.newest(to=to)]})
            return
        try:
            self._route(parts, search)
        except (KeyError, IndexError, ValueError):
            self._send(page("Not found", "<p>There is no such message.</p>"), status=404)

    def do_DELETE(self) -> None:
        """Forget all messages, or all texts."""
        boxes: dict[str, Mailbox | Textbox] = {"/api/messages": self.box, "/api/texts": self.texts}
        if self.path not in boxes:
            self._send(page("Not found", ""), status=404)
            return
        boxes[self.path].clear()
        self._send(b"", status=204)

    def do_POST(self) -> None:
        """Take a text, as the text gateway would."""
        account = text_account(self.path)
        length = int(self.headers.get("Content-Length") or 0)
        if not account or length > BIGGEST_FORM:
            self._send_json({"code": 20404, "message": "Not found", "status": 404}, status=404)
            return
        form = {name: values[0] for name, values in parse_qs(self.rfile.read(length).decode()).items()}
        status, answer = self.texts.handle(form, account)
        self._send_json(answer, status=status)

    def _route(self, parts: list[str], search: str) -> None:
        match parts:
            case []:
                self._send(inbox_page(self.box.summaries(search=search), search))
            case ["texts"]:
                self._send(texts_page(self.texts.newest(search=search), search))
            case ["api", "texts"]:
                self._send_json([text.resource("local") for text in self.texts.newest(search=search)])
            case ["healthz"]:
                self._send(b"ok", kind="text/plain")
            case ["api", "messages"]:
                self._send_json([asdict(item) for item in self.box.summaries(search=search)])
            case ["api", "messages", number]:
                self._send_json(message_json(self.box, int(number)))
            case ["m", number]:
                self._send(message_page(self.box, int(number)))
            case ["m", number, "html"]:
                text = mailbox.body(self.box.message(int(number)), "html") or ""
                self._send(text.encode(), headers={"Content-Security-Policy": "sandbox allow-popups"})
            case ["m", number, "source"]:
                self._send(self.box.raw(int(number)), kind="text/plain; charset=utf-8")
            case ["m", number, "files", index]:
                self._send_file(mailbox.attachments(self.box.message(int(number)))[int(index)])
            case _:
                raise KeyError(parts)

    def _send_file(self, file: mailbox.Attachment) -> None:
        name = f"attachment; filename*=UTF-8''{quote(file.filename)}"
        self._send(file.content, kind=file.content_type, headers={"Content-Disposition": name})

    def _send_json(self, value: object, *, status: int = 200) -> None:
        self._send(json.dumps(value, default=str).encode(), status=status, kind="application/json")

    def _send(
        self,
        content: bytes,
        *,
        status: int = 200,
        kind: str = "text/html; charset=utf-8",
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        shown = {"Content-Type": kind, "Content-Length": str(len(content)), "X-Content-Type-Options": "nosniff"}
        for name, value in {**shown, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Stay quiet: nobody reads the mail catcher's access log."""


def text_account(path: str) -> str:
    """The account of ``/2010-04-01/Accounts/<account>/Messages.json``; empty for any other address."""
    match urlsplit(path).path.split("/"):
        case ["", "2010-04-01", "Accounts", account, "Messages.json"]:
            return account
    return ""


def page(title: str, content: str, search: str = "", *, of: str = "/") -> bytes:
    """Return one web page; ``of``: which list the search box searches."""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{html.escape(title)}</title>"
        f"<style>{STYLE}</style><header><a href='/'>Munim mail</a><a href='/texts'>Texts</a><form action='{of}'>"
        f"<input name=q placeholder='Search sender, recipient, words' value='{html.escape(search)}'>"
        f"</form></header><main>{content}</main></html>"
    ).encode()


def inbox_page(summaries: list[Summary], search: str) -> bytes:
    """List the newest messages."""
    rows = "".join(
        f"<tr><td class=quiet>{item.received_at:%d %b %H:%M:%S}</td><td>{html.escape(item.recipients)}</td>"
        f"<td><a href='/m/{item.number}'>{html.escape(item.subject)}</a></td>"
        f"<td class=quiet>{item.attachments or ''}</td><td class=quiet>{item.size / 1024:.0f} KB</td></tr>"
        for item in summaries[:ROWS]
    )
    head = "<tr><th>Received (UTC)<th>To<th>Subject<th>Files<th>Size</tr>"
    shown = f"the newest {ROWS} of " if len(summaries) > ROWS else ""
    return page("Inbox", f"<p class=quiet>{shown}{len(summaries)} messages</p><table>{head}{rows}</table>", search)


def texts_page(texts: list[Text], search: str) -> bytes:
    """List the newest texts."""
    rows = "".join(
        f"<tr><td class=quiet>{text.received_at:%d %b %H:%M:%S}</td><td class=quiet>{html.escape(text.to)}</td>"
        f"<td>{html.escape(text.body)}</td><td class=quiet>{text.segments}</td></tr>"
        for text in texts[:ROWS]
    )
    head = "<tr><th>Received (UTC)<th>To<th>Text<th>Segments</tr>"
    shown = f"the newest {ROWS} of " if len(texts) > ROWS else ""
    listed = (
        f"<table>{head}{rows}</table>" if texts else "<p>No text was sent yet. Dunning policies with sms steps do.</p>"
    )
    return page("Texts", f"<p class=quiet>{shown}{len(texts)} texts</p>{listed}", search, of="/texts")


def message_page(box: Mailbox, number: int) -> bytes:
    """Show one message with its files."""
    message = box.message(number)
    headers = "".join(
        f"<tr><th>{name}<td>{html.escape(str(message.get(name, '')))}</tr>"
        for name in ("From", "To", "Cc", "Subject", "Date")
        if message.get(name)
    )
    files = "".join(
        f"<a class=file href='/m/{number}/files/{index}'>{html.escape(file.filename)}</a>"
        f"<span class=quiet>{file.content_type}, {len(file.content) / 1024:.0f} KB</span><br>"
        for index, file in enumerate(mailbox.attachments(message))
    )
    text = mailbox.body(message, "plain")
    shown = (
        f"<iframe sandbox='allow-popups' src='/m/{number}/html'></iframe>"
        if mailbox.body(message, "html") is not None
        else ""
    )
    plain = f"<h3>Text</h3><pre>{html.escape(text)}</pre>" if text is not None else ""
    source = f"<p><a href='/m/{number}/source'>Source</a></p>"
    return page(str(message.get("Subject", "")), f"<table>{headers}</table><p>{files}</p>{shown}{plain}{source}")


def message_json(box: Mailbox, number: int) -> dict[str, object]:
    """Return one message for a test to read."""
    message = box.message(number)
    summary = box.summary(number)
    return {
        **(asdict(summary) if summary else {}),
        "headers": [[name, str(value)] for name, value in message.items()],
        "text": mailbox.body(message, "plain"),
        "html": mailbox.body(message, "html"),
        "files": [
            {"filename": file.filename, "content_type": file.content_type, "size": len(file.content)}
            for file in mailbox.attachments(message)
        ],
    }


def main(arguments: list[str] | None = None) -> int:
    """Serve both ports until the process is told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--smtp-port", type=int, required=True)
    parser.add_argument("--web-port", type=int, required=True)
    parser.add_argument("--spool", type=Path, required=True, help="folder of the kept messages")
    options = parser.parse_args(arguments)

    box = Mailbox(options.spool)
    smtp = Controller(Receiver(box), hostname=options.host, port=options.smtp_port, data_size_limit=BIGGEST_MESSAGE)
    smtp.start()
    handler = type("BoundInbox", (Inbox,), {"box": box, "texts": Textbox(options.spool)})
    web = ThreadingHTTPServer((options.host, options.web_port), handler)
    try:
        web.serve_forever()
    finally:
        smtp.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
