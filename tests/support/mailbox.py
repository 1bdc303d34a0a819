"""A mailbox of generated messages, with a fact in each that somebody may ask for.

Languages in 13 charsets, transfer encodings, plain text, HTML and both, attachments of six kinds, forwarded messages with and
without attachments of their own, invitations. Every message is one of its own: its number decides all about it.
"""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass
from email.message import EmailMessage

import openpyxl

from tests.support import office
from tests.support.pdfs import pdf

# Charset: what the fact is called, how it is said, and how it is asked for. {code} is the message's own.
LANGUAGES = {
    "utf-8": ("Deposit", "The deposit for locker {code} is {value} euros.", "What is the deposit for locker {code}?"),
    "iso-8859-1": (
        "Gebühr",
        "Die Gebühr für den Schlüssel {code} beträgt {value} Euro.",
        "Wie hoch ist die Gebühr für den Schlüssel {code}?",
    ),
    "iso-8859-15": (
        "Loyer",
        "Le loyer de la cave {code} s'élève à {value} €.",
        "À combien s'élève le loyer de la cave {code} ?",
    ),
    "iso-8859-2": ("Opłata", "Opłata za szafkę {code} wynosi {value} złotych.", "Ile wynosi opłata za szafkę {code}?"),
    "windows-1251": ("Плата", "Плата за ключ {code} составляет {value} рублей.", "Какова плата за ключ {code}?"),
    "koi8-r": ("Залог", "Залог за шкафчик {code} равен {value} рублям.", "Чему равен залог за шкафчик {code}?"),
    "iso-8859-7": (
        "Εγγύηση",
        "Η εγγύηση για το κλειδί {code} είναι {value} ευρώ.",
        "Ποια είναι η εγγύηση για το κλειδί {code};",
    ),
    "windows-1255": ("דמים", "הפיקדון עבור ארון {code} הוא {value} שקלים.", "מהו הפיקדון עבור ארון {code}?"),
    "gb18030": ("押金", "储物柜 {code} 的押金是 {value} 元。", "储物柜 {code} 的押金是多少？"),
    "big5": ("押金", "儲物櫃 {code} 的押金是 {value} 元。", "儲物櫃 {code} 的押金是多少？"),
    "shift_jis": ("料金", "ロッカー {code} の料金は {value} 円です。", "ロッカー {code} の料金はいくらですか。"),
    "iso-2022-jp": ("保証金", "鍵 {code} の保証金は {value} 円です。", "鍵 {code} の保証金はいくらですか。"),
    "euc-kr": ("보증금", "사물함 {code} 의 보증금은 {value} 원입니다.", "사물함 {code} 의 보증금은 얼마입니까?"),
}
ATTACHED = ("docx", "xlsx", "pdf", "csv", "txt", "html")
FORMS = (
    *("plain", "html", "both"),
    *(f"attached {kind}" for kind in ATTACHED),
    *("forwarded", "forwarded with a file", "invited"),
)
MESSAGES_A_BOX = 25


@dataclass(frozen=True)
class Fact:
    """A question, what its answer must hold, and where that stands: the message's subject, and the part in it, if any."""

    question: str
    value: str
    subject: str
    part: str = ""


@dataclass(frozen=True)
class Message:
    """A message as its bytes, and the facts planted in it."""

    subject: str
    content: bytes
    facts: list[Fact]


def message(number: int) -> Message:
    """The message of this number, from 0 on."""
    charset = list(LANGUAGES)[number % len(LANGUAGES)]
    transfer = ("base64", "quoted-printable", "8bit")[number // len(LANGUAGES) % 3]
    return _Writer(number, charset, transfer).write(FORMS[number // 7 % len(FORMS)])


def boxes(messages: Iterable[Message]) -> Iterable[bytes]:
    """The messages in mbox files of a few each."""
    waiting = list(messages)
    for start in range(0, len(waiting), MESSAGES_A_BOX):
        yield b"".join(
            b"From sender@mail.example Mon Mar  2 09:30:00 2026\n" + _quoted(each.content) + b"\n\n"
            for each in waiting[start : start + MESSAGES_A_BOX]
        )


def _quoted(content: bytes) -> bytes:
    return content.replace(b"\nFrom ", b"\n>From ")


class _Writer:
    """One message in one charset and transfer encoding."""

    def __init__(self, number: int, charset: str, transfer: str) -> None:
        self._number = number
        self._charset = charset
        self._transfer = transfer
        self._name, self._said, self._asked = LANGUAGES[charset]
        self._facts: list[Fact] = []
        self._planted = 0

    def write(self, form: str) -> Message:
        subject = f"{self._name} {self._number}"
        made = self._headed(subject)
        self._fill(made, self._plant(subject), "both" if form in {"both", "invited"} else form)
        if form == "html" and self._number % 2:
            made.replace_header("Content-Type", f"text/html; charset={self._charset}")
        if form.startswith("attached "):
            self._attach(made, form.removeprefix("attached "), subject)
        elif form.startswith("forwarded"):
            self._forward(made, subject, with_file=form.endswith("file"))
        elif form == "invited":
            self._invite(made, subject)
        return Message(subject, made.as_bytes(), self._facts)

    def _plant(self, subject: str, *, part: str = "") -> str:
        """A sentence that says a fact."""
        self._planted += 1
        place = 4 * self._number + self._planted
        code, value = f"{'KLMNP'[place % 5]}-{place:05}", str(10_000 + 7 * place)
        self._facts.append(Fact(self._asked.format(code=code), value, subject, part))
        return self._said.format(code=code, value=value)

    def _headed(self, subject: str) -> EmailMessage:
        made = EmailMessage()
        made["From"] = f"Sender {self._number} <sender{self._number}@mail.example>"
        made["To"], made["Subject"] = "desk@mail.example", subject
        made["Date"] = f"Mon, {1 + self._number % 28:02} Mar 2026 09:30:00 +0100"
        return made

    def _fill(self, made: EmailMessage, sentence: str, form: str) -> None:
        page = f"<html><body><p>{sentence}</p><table><tr><td>1</td></tr></table></body></html>"
        transfer = "base64" if self._transfer == "8bit" and self._charset == "iso-2022-jp" else self._transfer
        encoded = {"charset": self._charset, "cte": transfer}
        if form == "html":
            made.set_content(page, subtype="html", **encoded)
            return
        made.set_content(sentence, **encoded)
        if form == "both":
            made.add_alternative(page, subtype="html", **encoded)

    def _attach(self, made: EmailMessage, kind: str, subject: str) -> None:
        name = f"list-{self._number}.{kind}"
        sentence = self._plant(subject, part=name)
        if kind == "pdf":  # its font has no letters but Latin ones
            self._said, self._asked = LANGUAGES["utf-8"][1:]
            del self._facts[-1]
            self._planted -= 1
            sentence = self._plant(subject, part=name)
        content = ATTACHMENTS[kind](sentence)
        made.add_attachment(content, maintype="application", subtype="octet-stream", filename=name)

    def _forward(self, made: EmailMessage, subject: str, *, with_file: bool) -> None:
        name = f"{self._name} {self._number} before"
        inner = self._headed(name)
        self._fill(inner, self._plant(subject, part=name), "plain")
        if with_file:
            file = f"note-{self._number}.txt"
            inner.add_attachment(
                self._plant(subject, part=file).encode(), maintype="text", subtype="plain", filename=file
            )
        made.add_attachment(inner)

    def _invite(self, made: EmailMessage, subject: str) -> None:
        sentence = self._plant(subject, part="Calendar")
        calendar = (
            f"BEGIN:VCALENDAR\r\nBEGIN:VEVENT\r\nDTSTART:20260501T100000Z\r\nSUMMARY:{sentence}\r\nEND:VEVENT\r\n"
        )
        made.add_alternative(f"{calendar}END:VCALENDAR\r\n", subtype="calendar", charset="utf-8", cte="base64")


def _workbook(sentence: str) -> bytes:
    book = openpyxl.Workbook()
    for row in (["No.", "Note"], [1, "-"], [2, sentence]):
        book.worksheets[0].append(row)
    buffer = io.BytesIO()
    book.save(buffer)
    return buffer.getvalue()


def _table(sentence: str) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, delimiter=";").writerows([["No.", "Note"], ["1", "-"], ["2", sentence]])
    return buffer.getvalue().encode()


ATTACHMENTS = {
    "docx": lambda sentence: office.word(f"<w:p><w:r><w:t>{sentence}</w:t></w:r></w:p>"),
    "xlsx": _workbook,
    "pdf": lambda sentence: pdf([(50.0, 700.0, "List")], [(50.0, 700.0, sentence)]),
    "csv": _table,
    "txt": str.encode,
    "html": lambda sentence: f"<!doctype html><meta charset=utf-8><p>{sentence}".encode(),
}
