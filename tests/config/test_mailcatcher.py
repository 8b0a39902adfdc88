"""The mail catcher keeps every mail and shows it without trusting it."""

import json
import smtplib
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from config.local import places
from config.local.mailbox import Mailbox
from config.local.textbox import Textbox

ROOT = Path(__file__).resolve().parents[2]
PDF = b"%PDF-1.7 not really"


@pytest.fixture(scope="module")
def catcher(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, str]]:
    smtp, web = places.free_port(), places.free_port()
    spool = tmp_path_factory.mktemp("mail")
    command = [sys.executable, "-m", "config.local.mailcatcher", "--spool", spool]
    process = subprocess.Popen([*command, "--smtp-port", str(smtp), "--web-port", str(web)], cwd=ROOT)
    base = f"http://127.0.0.1:{web}"
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{base}/healthz", timeout=1)
            break
        except OSError:
            time.sleep(0.05)
    yield smtp, base
    process.terminate()
    process.wait(10)


@pytest.fixture
def invoice_mail(catcher: tuple[int, str]) -> str:
    """Send one mail with a PDF; return the address of the web page."""
    port, base = catcher
    message = EmailMessage()
    message["From"], message["To"] = "Munim <billing@munim.example>", "asha@customer.example"
    message["Subject"] = "Invoice <b>INV-7</b> · ₹499.00"
    message.set_content("Dear Asha, please find your invoice.")
    message.add_alternative("<p>Dear <script>alert(1)</script>Asha</p>", subtype="html")
    message.add_attachment(PDF, maintype="application", subtype="pdf", filename="INV-7 पावती.pdf")
    with smtplib.SMTP("127.0.0.1", port) as client:
        client.send_message(message)
    return base


def get(url: str) -> tuple[bytes, Any]:
    with urllib.request.urlopen(url, timeout=5) as response:
        return response.read(), response.headers


def test_a_mail_is_listed_shown_and_its_pdf_can_be_downloaded(invoice_mail: str) -> None:
    messages = json.loads(get(f"{invoice_mail}/api/messages?q=ASHA@customer")[0])
    number = messages[0]["number"]

    told = json.loads(get(f"{invoice_mail}/api/messages/{number}")[0])
    pdf, headers = get(f"{invoice_mail}/m/{number}/files/0")

    assert messages[0]["subject"] == "Invoice <b>INV-7</b> · ₹499.00"
    assert told["text"] == "Dear Asha, please find your invoice.\n"
    assert told["files"] == [{"filename": "INV-7 पावती.pdf", "content_type": "application/pdf", "size": len(PDF)}]
    assert ["X-RcptTo", "asha@customer.example"] in told["headers"]
    assert (pdf, headers["Content-Type"]) == (PDF, "application/pdf")


def test_what_a_mail_says_cannot_act_on_the_page(invoice_mail: str) -> None:
    number = json.loads(get(f"{invoice_mail}/api/messages")[0])[0]["number"]

    page = get(f"{invoice_mail}/m/{number}")[0].decode()
    inbox = get(f"{invoice_mail}/")[0].decode()
    content, headers = get(f"{invoice_mail}/m/{number}/html")

    assert "Invoice &lt;b&gt;INV-7&lt;/b&gt;" in page
    assert "<b>INV-7</b>" not in page + inbox
    assert "<iframe sandbox=" in page
    assert b"<script>" in content
    assert headers["Content-Security-Policy"] == "sandbox allow-popups"


def test_an_unknown_message_is_not_found(catcher: tuple[int, str]) -> None:
    for path in ("/m/999", "/m/x", "/m/999/files/0", "/api/messages/999", "/nothing"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(catcher[1] + path)


def test_a_mailbox_remembers_its_messages_after_a_restart_until_it_is_cleared(tmp_path: Path) -> None:
    first = Mailbox(tmp_path)
    assert [first.add(b"Subject: one\r\n\r\nx"), first.add(b"Subject: two\r\n\r\ny")] == [1, 2]

    again = Mailbox(tmp_path)
    assert [item.subject for item in again.summaries()] == ["two", "one"]
    assert again.raw(1) == b"Subject: one\r\n\r\nx"

    again.clear()
    assert again.summaries() == []
    assert list(tmp_path.iterdir()) == []


def post(url: str, **form: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, data=urllib.parse.urlencode(form).encode(), timeout=5) as response:
            return response.status, json.loads(response.read())
    except urllib.error.HTTPError as refused:
        return refused.code, json.loads(refused.read())


def test_texts_are_kept_beside_mails_and_shown_without_trusting_them(catcher: tuple[int, str]) -> None:
    _, base = catcher
    address = f"{base}/2010-04-01/Accounts/AC1/Messages.json"

    status, made = post(address, To="+919845012345", From="Munim", Body="Pay <b>₹1.00</b> now")

    assert (status, made["to"], made["num_segments"], made["sid"][:2]) == (201, "+919845012345", "1", "SM")
    found = json.loads(get(f"{address}?To=%2B919845012345")[0])["messages"]
    assert [message["sid"] for message in found] == [made["sid"]]
    page = get(f"{base}/texts")[0].decode()
    assert "Pay &lt;b&gt;₹1.00&lt;/b&gt; now" in page
    assert json.loads(get(f"{base}/api/texts?q=nobody")[0]) == []


@pytest.mark.parametrize(("form", "code"), [
    ({"Body": "x"}, 21604), ({"To": "+919845012345"}, 21602), ({"To": "0800", "Body": "x"}, 21211),
    ({"To": "+919845010008", "Body": "x"}, 21211), ({"To": "+919845010009", "Body": "x"}, 21610),
    ({"To": "+919845012345", "Body": "x" * 1601}, 21617),
])  # fmt: skip
def test_texts_that_a_gateway_would_refuse(catcher: tuple[int, str], form: dict[str, str], code: int) -> None:
    status, answer = post(f"{catcher[1]}/2010-04-01/Accounts/AC1/Messages.json", **form)
    assert (status, answer["code"]) == (400, code)


def test_texts_survive_a_restart(tmp_path: Path) -> None:
    box = Textbox(tmp_path)
    box.handle({"To": "+919845012345", "From": "Munim", "Body": "नमस्ते " * 12}, "AC1")
    [text] = Textbox(tmp_path).newest()
    assert (text.body, text.segments) == ("नमस्ते " * 12, 2)
