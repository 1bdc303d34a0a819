"""Texts that do not say how they are encoded are read, and a doubtful reading is said."""

import os

import pytest
from tests.support.reading import read

from refdesk.contracts.documents import ReadingNote
from refdesk.indexing.readers.encodings import Guess, codec_named, decode, guess
from refdesk.outside import media_types as kinds
from refdesk.outside.detection import detect_media_type

TEXTS = {
    "Die Bücherei öffnet um neun; die Gebühr beträgt fünf Euro für Schüler.": (
        "cp1252",
        "iso8859_15",
        "mac_roman",
        "cp850",
    ),
    "La bibliothèque ouvre à neuf heures ; l'entrée coûte 5 € pour les élèves.": ("cp1252", "iso8859_15"),
    "Biblioteka czeka na dzieci: otwarcie o dziewiątej, opłata pięć złotych, zniżki są możliwe.": (
        "cp1250",
        "iso8859_2",
    ),
    "Knihovna se otevírá v devět hodin, poplatek činí pět korun, děti platí méně.": ("cp1250", "iso8859_2"),
    "A könyvtár kilenckor nyílik, a díj öt forint, a fűtött terem később zár, előbb szóljon.": ("cp1250", "iso8859_2"),
    "Kütüphane saat dokuzda açılıyor, ücret beş lira, öğrencilere indirim var.": ("cp1254", "iso8859_9"),
    "Biblioteka atidaroma devintą valandą, mokestis penki eurai, šiandien nedirbame, ačiū už kantrybę.": ("cp1257",),
    "Библиотека открывается в девять часов, плата пять рублей, детям бесплатно.": (
        "cp1251",
        "koi8_r",
        "iso8859_5",
        "cp866",
    ),
    "Бібліотека відчиняється о дев'ятій годині, плата п'ять гривень, дітям безкоштовно.": ("cp1251", "koi8_u"),
    "Η βιβλιοθήκη ανοίγει στις εννέα, η είσοδος κοστίζει πέντε ευρώ.": ("cp1253", "iso8859_7"),
    "הספרייה נפתחת בשעה תשע, דמי הכניסה חמישה שקלים.": ("cp1255", "iso8859_8"),
    "تفتح المكتبة في الساعة التاسعة، والرسم خمسة دنانير للطلاب.": ("cp1256", "iso8859_6"),
    "ห้องสมุดเปิดเวลาเก้าโมงเช้า ค่าธรรมเนียมห้าบาทสำหรับนักเรียน": ("cp874",),
    "图书馆上午九点开门，学生的费用是五元，周末不开放。": ("gb18030", "gb2312", "gbk"),
    "圖書館上午九點開門，學生的費用是五元，週末不開放。": ("big5",),
    "図書館は午前九時に開きます。学生の料金は五円です。": ("shift_jis", "euc_jp", "iso2022_jp"),
    "도서관은 아침 아홉 시에 열고 학생은 다섯 원을 냅니다.": ("euc_kr", "cp949"),
}


@pytest.mark.parametrize(
    ("text", "encoding"), [(text, encoding) for text, all_of in TEXTS.items() for encoding in all_of]
)
def test_a_sentence_is_read_in_its_own_encoding(text: str, encoding: str) -> None:
    """Thirty encodings, none declared; not one letter is another one."""
    assert read(text.encode(encoding), kinds.TEXT).text == text


@pytest.mark.parametrize("text", [text for text in TEXTS if not text.isascii()])
@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be", "utf-16", "utf-8", "utf-8-sig", "utf-32"])
def test_unicode_is_read_without_a_doubt(text: str, codec: str) -> None:
    """With its mark and without one, in any script."""
    content = f"{text}\n\n2026".encode(codec)
    assert detect_media_type(content, "a.txt", None) == kinds.TEXT
    assert read(content, kinds.TEXT).text == f"{text}\n\n2026"


def test_a_doubtful_reading_is_said_on_the_document() -> None:
    """The reader learns why a name may be spelled wrong."""
    parsed = read("Zebranie w piątek".encode("cp1250"), kinds.TEXT, "plan.txt")
    assert parsed.text == "Zebranie w piątek"
    said = "plan.txt does not say how its text is encoded: read as Windows-1250, 0.50 sure."
    assert parsed.notes == (ReadingNote(code="encoding_doubtful", text=said),)


def test_a_sure_reading_is_not_remarked_upon() -> None:
    """Nobody wants to read about encodings."""
    assert read("Совещание в пятницу, в десять часов утра.".encode("koi8_r"), kinds.TEXT).notes == ()


@pytest.mark.parametrize(
    ("label", "codec"),
    [
        *(("GB2312", "gb18030"), ("ks_c_5601-1987", "cp949"), ("Shift_JIS", "cp932"), ("'big5'", "big5hkscs")),
        *(("iso-8859-1", "cp1252"), ("windows-1251", "cp1251"), ("utf8", "utf-8"), ("x-unknown", None), ("hex", None)),
    ],
)
def test_a_label_means_what_senders_mean_by_it(label: str, codec: str | None) -> None:
    """Supersets stand in for what they extend; what encodes no text is no encoding."""
    assert codec_named(label) == codec


def test_a_wrong_declaration_is_not_believed() -> None:
    """Bytes that are no UTF-8 are read as what they are; bytes that are UTF-8 are, too."""
    for content, declared in (
        ("Größe".encode("cp1252"), "utf-8"),
        ("Größe".encode(), "iso-8859-1"),
        ("Größe".encode("cp850"), "cp850"),
    ):
        assert decode(content, declared=declared).text == "Größe"
    assert decode("Сегодня".encode("koi8_r"), declared="nonsense").text == "Сегодня"


def test_a_damaged_place_does_not_change_the_encoding_of_a_text() -> None:
    """What is nearly all UTF-8 is read as that, and the lost characters are counted."""
    text = "Die Gebühr für größere Schlüssel beträgt fünf Euro. " * 40
    parsed = read(text.encode() + b"\xff\xfe broken \xe2\x82", kinds.TEXT, "fees.txt")
    assert parsed.text.startswith(text)
    assert [note.code for note in parsed.notes] == ["characters_lost"]
    assert parsed.notes[0].text == "Of fees.txt, 3 characters cannot be read as UTF-8."
    declared = decode("Größe\n".encode("cp1250") * 200 + b"\x81", declared="windows-1250")
    assert (declared.lost, declared.text.count("Größe")) == (1, 200)


def test_noise_is_no_sure_text() -> None:
    """Whatever it is taken for."""
    noise = os.urandom(4096).replace(b"\0", b"x")
    assert guess(noise).confidence < 0.5
    assert guess(b"") == Guess("utf-8", 1.0)
