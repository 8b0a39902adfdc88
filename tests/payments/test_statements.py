"""Bank statements: real samples give their known sums; whatever cannot be read is refused by row, column and value."""

import time
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from payments.statements import Dialect, StatementRefused, line_keys, read_statement

SAMPLES = Path(__file__).resolve().parents[3] / "shared" / "samples"
needs_samples = pytest.mark.skipif(not SAMPLES.is_dir(), reason="the folder of sample files is absent")

CAMT = """<?xml version="1.0" encoding="UTF-8"?>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}"><BkToCstmrStmt><Stmt><Id>1</Id>
<Acct><Id><IBAN>DE02120300000000202051</IBAN></Id><Ccy>EUR</Ccy></Acct>
<Bal><Tp><CdOrPrtry><Cd>OPBD</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">100.00</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>
<Bal><Tp><CdOrPrtry><Cd>CLBD</Cd></CdOrPrtry></Tp><Amt Ccy="EUR">148.50</Amt><CdtDbtInd>CRDT</CdtDbtInd></Bal>
{entries}</Stmt></BkToCstmrStmt></Document>"""
ENTRY = """<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{direction}</CdtDbtInd><Sts>{status}</Sts>
<BookgDt><Dt>{day}</Dt></BookgDt><AcctSvcrRef>{ref}</AcctSvcrRef><NtryDtls><TxDtls><Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs>
<RmtInf><Ustrd>STRIPE PAYOUT po_1</Ustrd></RmtInf></TxDtls></NtryDtls></Ntry>"""
MT940 = """:20:STARTUMSE
:25:12345678/0202051
:28C:00001/001
:60F:C250401INR1000,00
:61:2504030403C4750,11NTRFAXISN25093000001
:86:NEFT CR-AXISN25093000001-RAZORPAY SOFTWARE PVT LTD
:61:2504030403D59,00NCHGNONREF
:86:MONTHLY CHARGES
:62F:C250403INR5691,11
-"""
CSV = """Account statement,April
Date,Narration,Chq./Ref.No.,Value Dt,Withdrawal Amt.,Deposit Amt.,Closing Balance
03/04/25,NEFT CR-AXISN25093000001-RAZORPAY,AXISN25093000001,03/04/25,,"4,750.11","5,750.11"
13/04/25,MONTHLY CHARGES,0000000,13/04/25,59.00,,"5,691.11"
"""


def camt(*entries: dict, version: str = "02") -> bytes:
    standard = {"amount": "50.00", "direction": "CRDT", "status": "BOOK", "day": "2025-04-03", "ref": "B1"}
    return CAMT.format(version=version, entries="".join(ENTRY.format(**standard | entry) for entry in entries)).encode()


def lines_of(content: bytes | str, **kwargs):
    raw = content.encode() if isinstance(content, str) else content
    found = read_statement(raw, **{"currency": "INR"} | kwargs)
    return [line for statement in found.statements for line in statement.lines]


@needs_samples
@pytest.mark.parametrize(
    ("name", "count", "total"),
    [
        ("camt/camt053_v2_basic.xml", 4, "-10.00"),
        ("camt/camt053_v2_debit.xml", 4, "-10.00"),
        ("camt/camt053_v2_batch_entry.xml", 3, "2934.26"),
        ("camt/camt053_instructed_amount.xml", 1, "4500.00"),
        ("camt/camt053_v4_large.xml", 13, "537.61"),
        ("camt/camt053_v8.xml", 3, "542.28"),
        ("mt940/abnamro.sta", 10, "-345.93"),
        ("mt940/asnb_multi_statement.txt", 8, "56.94"),
        ("mt940/citi_zero_amounts.txt", 3, "-1142.75"),
        ("mt940/cmxl_structured_86.sta", 16, "12327.30"),
        ("mt940/february_30.sta", 1, "-6.00"),
        ("mt940/ing_soft_hyphens.sta", 7, "-45.59"),
        ("mt940/multiline_details.sta", 2, "114.00"),
        ("mt940/rabobank_multi.sta", 5, "-1589.09"),
        ("mt940/sepa_snippet.sta", 11, "-2143323.39"),
        ("csv/boi_debit_credit_columns.csv", 27, "-419.61"),
        ("csv/jsmith_bom_pending_rows.csv", 10, "-285.80"),
        ("csv/kbc_semicolon_decimal_comma.csv", 1, "-3.40"),
        ("csv/ocbc_preamble.csv", 8, "-173.28"),
    ],
)
def test_real_files_give_their_known_number_and_sum(name, count, total):
    lines = lines_of((SAMPLES / name).read_bytes(), currency="EUR")
    assert (len(lines), sum(line.amount.amount for line in lines)) == (count, Decimal(total))
    assert len(set(line_keys(lines))) == count


@needs_samples
def test_two_currencies_of_one_real_file_stay_apart():
    lines = lines_of((SAMPLES / "camt/camt053_v8.xml").read_bytes())
    sums = {code: sum(x.amount.amount for x in lines if x.amount.currency.code == code) for code in ("CHF", "EUR")}
    assert sums == {"CHF": Decimal("563.25"), "EUR": Decimal("-20.97")}


@needs_samples
def test_hungarian_headings_and_directions_in_words():
    lines = lines_of((SAMPLES / "csv/erste_hu_inflow_outflow.csv").read_bytes(), currency="HUF")
    assert [(x.booked_on, x.amount.amount) for x in lines] == [(date(2019, 4, 19), -350), (date(2019, 4, 17), 1290)]


@needs_samples
def test_unsigned_amounts_with_a_flag_need_a_stated_dialect_and_a_stray_row_is_named():
    content = (SAMPLES / "csv/flag_column_unsigned.csv").read_bytes()
    dialect = Dialect(
        delimiter=";", has_header=False, columns={"date": 1, "description": 2, "amount": 4, "direction": 5}
    )
    with pytest.raises(StatementRefused, match=r"header row") as refused:
        lines_of(content, format="csv")
    with pytest.raises(StatementRefused) as refused:
        lines_of(content, format="csv", currency="EUR", dialect=dialect)
    assert (refused.value.row, refused.value.column) == (71, "date")
    lines = lines_of(b"\n".join(content.splitlines()[:70]), format="csv", currency="EUR", dialect=dialect)
    assert (len(lines), lines[0].amount.amount, lines[9].amount.amount) == (70, Decimal("-33.87"), Decimal("24.00"))


@needs_samples
def test_a_notification_is_no_statement():
    with pytest.raises(StatementRefused, match=r"camt\.053"):
        lines_of((SAMPLES / "camt/camt054_notification.xml").read_bytes())


@pytest.mark.parametrize("version", ["02", "04", "08"])
def test_camt_reads_booked_entries_with_balances_and_counts_pending_ones(version):
    content = camt(
        {}, {"amount": "1.50", "direction": "DBIT", "ref": "B2"}, {"status": "PDNG", "ref": "B3"}, version=version
    )
    found = read_statement(content, currency="EUR")
    statement = found.statements[0]
    assert (found.pending, statement.account, str(statement.opening.amount), str(statement.closing.amount)) == (
        1, "DE02120300000000202051", "100.00", "148.50")  # fmt: skip
    assert [(x.bank_ref, x.amount.amount, x.booked_on) for x in statement.lines] == [
        ("B1", Decimal("50.00"), date(2025, 4, 3)), ("B2", Decimal("-1.50"), date(2025, 4, 3))]  # fmt: skip
    assert "po_1" in statement.lines[0].description


def test_mt940_and_csv_of_the_same_money_agree():
    from_mt940, from_csv = lines_of(MT940), lines_of(CSV)
    assert (
        [x.amount.amount for x in from_mt940]
        == [x.amount.amount for x in from_csv]
        == [Decimal("4750.11"), Decimal("-59.00")]
    )
    assert from_mt940[0].reference == from_csv[0].reference == "AXISN25093000001"
    assert from_csv[1].reference == ""
    balances = read_statement(CSV.encode(), currency="INR").statements[0]
    assert (balances.opening.amount, balances.closing.amount) == (Decimal("1000.00"), Decimal("5691.11"))


def test_equal_rows_are_two_lines_and_known_again_in_a_longer_file():
    head = "Date,Description,Amount\n"
    row = "2025-04-03,Coffee,-3.50\n"
    short, long = lines_of(head + row + row), lines_of(head + row + row + row + "2025-04-04,Tea,-2.00\n")
    assert len(set(line_keys(short))) == 2
    assert line_keys(long)[:2] == line_keys(short)
    assert len(set(line_keys(long))) == 4


@pytest.mark.parametrize(
    ("row", "column", "value"),
    [
        ("2025-04-03,x,12,34", "4", "34"),
        ("2025-04-03,x,abc", "amount", "abc"),
        ("2025-04-03,x,$", "amount", "$"),
        ("2025-04-03,x,", "amount", ""),
        ("2025-04-03,x,NaN", "amount", "NaN"),
        ("2025-04-03,x,1e400", "amount", "1e400"),
        ("2025-04-03,x,0.001", "amount", "0.001"),
        ("2025-04-03,x,99999999999999999", "amount", "99999999999999999"),
        ("2025-04-31,x,1.00", "date", "2025-04-31"),
        ("soon,x,1.00", "date", "soon"),
        (",x,1.00", "date", ""),
    ],
)
def test_one_unreadable_cell_refuses_the_whole_file_and_names_it(row, column, value):
    with pytest.raises(StatementRefused) as refused:
        lines_of(f"Date,Description,Amount\n2025-04-02,fine,1.00\n{row}\n")
    assert (refused.value.row, refused.value.column) == (3, column)
    assert value in str(refused.value)
    assert refused.value.http_status == 422


def test_dates_that_can_be_read_two_ways_are_asked_for():
    text = "Date,Description,Amount\n03/04/2025,a,1.00\n04/05/2025,b,2.00\n"
    with pytest.raises(StatementRefused, match="date_format or day_first"):
        lines_of(text)
    assert lines_of(text, dialect=Dialect(day_first=True))[0].booked_on == date(2025, 4, 3)
    assert lines_of(text, dialect=Dialect(day_first=False))[0].booked_on == date(2025, 3, 4)
    assert lines_of(text.replace("04/05", "14/05"))[0].booked_on == date(2025, 4, 3)


def test_decimal_comma_and_point_in_one_file_are_a_question():
    with pytest.raises(StatementRefused, match="one decimal sign"):
        lines_of('Date;Description;Amount\n2025-04-03;a;"1,50"\n2025-04-03;b;1.50\n')
    assert lines_of("Date;Description;Amount\n2025-04-03;a;1.234,50\n")[0].amount.amount == Decimal("1234.50")
    assert lines_of('Date,Description,Amount\n2025-04-03,a,"₹ 1,00,000.50 Dr"\n')[0].amount.amount == Decimal(
        "-100000.50"
    )


BOMB = b"""<?xml version="1.0"?><!DOCTYPE Document [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02">&b;</Document>"""
EXTERNAL = b"""<?xml version="1.0"?><!DOCTYPE d [<!ENTITY x SYSTEM "file:///etc/passwd">]>
<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02">&x;</Document>"""
DEEP = b'<Document xmlns="urn:iso:std:iso:20022:tech:xsd:camt.053.001.02">' + b"<a>" * 50_000


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\xef\xbb\xbf", b"   \n", BOMB, EXTERNAL, DEEP, b"<", b"<html><script>alert(1)</script></html>", b"%PDF-1.7 ...",
        b"PK\x03\x04" + b"\x00" * 100, b"\x00\x01\x02", b"\xff\xfe\x00", b"a,b\n" * 50, b'"' * 100_000, b",\n" * 200_000,
        b"Date,Description,Amount\n" + b"x" * 5_000_000, b":60F:C250401INR1,\n:61:" + b"9" * 1_000_000,
        b":60F:C250401INR1,\n:61:250401C,NTRF", b":60F:C250401INR1,\n" + b":61:2504010401C" + b"1," * 900,
        b":60F:C250401ZZZ1,00\n:61:2504010401C1,00NTRFX", MT940.replace("D59,00", "D59.00").encode(),
        MT940.replace("D59,00", "D5x,00").encode(), MT940.replace("2504030403D", "2599990403D").encode(),
        camt({"amount": "1.005"}), camt({"amount": "-5.00"}), camt({"amount": "five"}), camt({"amount": ""}),
        camt({"direction": "X"}), camt({"day": "2025-13-01"}), camt({"status": "ODD"}), camt(version="99"), camt({})[:-40],
        b"21 MB" * (21 * 1024 * 1024 // 5),
    ],
)  # fmt: skip
def test_hostile_files_are_refused_quickly_and_by_name(content):
    started = time.perf_counter()
    with pytest.raises(StatementRefused) as refused:
        read_statement(content, currency="INR")
    assert time.perf_counter() - started < 2
    assert "xpected" in str(refused.value)
    assert "root:" not in str(refused.value)


@pytest.mark.parametrize(
    "subset", [b"", b" [<!ENTITY x SYSTEM 'file:///etc/passwd'>]", b" SYSTEM 'http://127.0.0.1:9/x.dtd'"]
)
def test_a_statement_with_a_document_type_is_refused_for_it_alone(subset):
    content = camt({}).replace(b"<Document", b"<!DOCTYPE Document" + subset + b">\n<Document", 1)
    with pytest.raises(StatementRefused, match="without a document type"):
        read_statement(content, currency="EUR")


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(["auto", "camt053", "mt940", "csv"]))
def test_any_bytes_are_read_or_refused(content, form):
    try:
        read_statement(content, format=form, currency="INR")
    except StatementRefused:
        pass


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_damaged_statement_is_read_or_refused(data):
    original = data.draw(st.sampled_from([MT940.encode(), CSV.encode(), camt({}, {"ref": "B2"})]))
    place = data.draw(st.integers(0, len(original) - 1))
    damaged = original[:place] + data.draw(st.binary(max_size=6)) + original[place + data.draw(st.integers(0, 6)) :]
    try:
        read_statement(damaged, currency="INR")
    except StatementRefused:
        pass


amounts = st.integers(-10_000_000_00, 10_000_000_00).filter(bool).map(lambda minor: Decimal(minor).scaleb(-2))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 400), amounts), min_size=1, max_size=20),
    st.sampled_from([",", ";", "\t", "|"]),
    st.booleans(),
    st.booleans(),
    st.sampled_from(["%Y-%m-%d", "%d-%b-%Y", "%Y/%m/%d"]),
)
def test_what_a_bank_writes_is_what_is_read(rows, delimiter, comma, two_columns, fmt):
    def number(value: Decimal) -> str:
        text = f"{value:,.2f}"
        return f'"{text.translate(str.maketrans(",.", ".,")) if comma else text}"'

    days = [date(2025, 1, 1) + timedelta(days=offset) for offset, _ in rows]
    head = ["Date", "Narration", "Debit", "Credit"] if two_columns else ["Date", "Narration", "Amount"]
    body = [
        [day.strftime(fmt), f"line {index}", *((number(-a), "") if a < 0 else ("", number(a)))] if two_columns
        else [day.strftime(fmt), f"line {index}", number(a)]
        for index, (day, (_, a)) in enumerate(zip(days, rows, strict=True))
    ]  # fmt: skip
    lines = lines_of("\r\n".join(delimiter.join(cells) for cells in [head, *body]))
    assert [(x.booked_on, x.amount.amount) for x in lines] == [(d, a) for d, (_, a) in zip(days, rows, strict=True)]
