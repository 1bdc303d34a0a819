"""Which encoding a text without a declaration has: the one in which it reads like a language.

UTF-8, byte order marks and escape sequences are certain. Every other encoding is a guess, so each candidate decodes the text,
and each language that is written in it judges the characters that are not ASCII:

* a letter of its alphabet counts, a foreign one does not; neither does a symbol inside a word ("pi±tek"), a capital after a
  small letter ("cafÈ") or a letter of another script beside a Latin one;
* of scripts that have no ASCII letters, the most frequent letters must be frequent.

The winner's share, and its lead over the next candidate that reads differently, say how sure the guess is.
"""

import codecs
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

SAMPLE_BYTES = 8 * 1024
"""How much of the lines that are not ASCII is looked at."""
DOUBTFUL_BELOW = 0.8
"""A guess less sure than this is said on the document."""

_UTF8_SHARE_MIN = 0.8  # of a text in another encoding hardly a character is left
_LEAD_MIN = 0.2  # over a candidate that reads differently: a guess that leads by more is as sure as its own share
_FREQUENT_SHARE = 0.3
_LETTERS_MIN = 4  # with fewer letters that are not ASCII, no frequencies are looked at

_PUNCTUATION = frozenset("“”„‚‘’–—…«»‹›°§€£¥×÷½¼¾²³·•™©®¿¡ªº±µ¶†‰´ \xad、。，！？：；（）「」『』《》【】・～－　％“”")
_SIGNS = frozenset("±€£¥§°©®™†‰¼½¾²³¶¢¤")
"""Stand beside words, not in them nor at their ends."""
_WORDS = frozenset("àèéóöåæøÀÈÉÓÖÅÆØíÍ")
"""Letters that are words of their own."""
_APOSTROPHES = frozenset("’·´\xad‘")

# Letters beside ASCII of languages in Latin script. Cover as many as there are 8-bit encodings to tell apart.
_WESTERN = ("cp1252", "iso8859_15", "cp850", "mac_roman")
_CENTRAL = ("cp1250", "iso8859_2", "cp852")
_BALTIC = ("cp1257", "iso8859_13")
_LATIN = {
    "german": ("äöüßé", _WESTERN),
    "french": ("éèàêçùâîôûëïœü", _WESTERN),
    "spanish": ("áéíóúñüªº", _WESTERN),
    "portuguese": ("ãçáéíóúâêôõàªº", _WESTERN),
    "italian": ("àèéìòùª", _WESTERN),
    "nordic": ("åäöæøéðþíóúýá", _WESTERN),
    "dutch": ("ëéïóüèö", _WESTERN),
    "polish": ("ąćęłńóśźż", _CENTRAL),
    "czech": ("áčďéěíňóřšťúůýž", _CENTRAL),
    "slovak": ("áäčďéíĺľňóôŕšťúýž", _CENTRAL),
    "hungarian": ("áéíóöőúüű", _CENTRAL),
    "croatian": ("čćđšž", _CENTRAL),
    "romanian": ("ăâîșțşţ", (*_CENTRAL, "iso8859_16")),
    "turkish": ("çğıöşüâîûİ", ("cp1254", "cp857")),
    "lithuanian": ("ąčęėįšųūž", _BALTIC),
    "latvian": ("āčēģīķļņšūž", _BALTIC),
    "estonian": ("äõöüšž", _BALTIC),
}
_RARE = {**dict.fromkeys(("cp850", "cp852", "cp857", "cp866", "cp1125"), 0.96), "mac_roman": 0.96, "mac_cyrillic": 0.85}
"""Encodings of DOS and of old Macs must read better than others to be believed."""
# Letters of other scripts, the most frequent ones of each language first, behind a bar the rest.
_SCRIPTS = {
    "russian": (
        "оеаинтсрвлкмд|пуяызьбгчйхжшюцщэфъё",
        ("cp1251", "koi8_r", "cp866", "iso8859_5", "mac_cyrillic"),
    ),
    "ukrainian": ("оанивтрескілдпму|язьбгйчхцїжєюшфщґё", ("cp1251", "koi8_u", "cp1125")),
    "bulgarian and serbian": ("аоиетнрсвлкдјпм|узъгбчщцжйяюшхфюьђљњћџ", ("cp1251", "iso8859_5")),
    "greek": ("αοιετσνηυρπκλςμ|άέίήόύώωγδθβχφξζψϊϋΐΰ", ("cp1253", "iso8859_7")),
    "hebrew": ("יוהלארתבשמנ|םעדןקחפכטגזסצךףץ", ("cp1255", "iso8859_8")),
    "arabic": ("اليمنتروبةعدسفه|كقحجشصىخطذءضئزثغأإآؤظًٌٍَُِّْـ،؛؟", ("cp1256", "iso8859_6")),
    "thai": ("านรอกเงทมยลวดตสบ่้ิีัปขคหจพช|แใไะถผุูึืำโซธณภศญฐษฉฟฮฝ็์ๆฯฆฌฎฏฑฒฬฤ", ("cp874",)),
}
_HANZI = (
    "的一是不了在人有我他这個个们中来上大为為和国國地到以说時时要就出会會可也你对對生能而子那得于於着下自之年过過发"
    "發后後作里用道行所然家种種事成方多经經么去法学學如都同现現当當没動动面起看定天分还還进進好小部其些主样樣理心她"
    "本前开開但因只从從想实實日月時週周五六三十号號点點厅廳请請带帶份报報告文件公司第二四七八九"
)
_HANGUL = "이다는의에을를가고하지로은사한기리시도어인자대해서나일정수아스전부상보그과구제라장주요만성들으니여동있원비와것조교안세"
_WIDE = (("gb18030", "gb2312", _HANZI), ("big5hkscs", "big5", _HANZI), ("cp949", "euc_kr", _HANGUL))
_JAPANESE = ("cp932", "euc_jp")

_ESCAPES = (
    (b"\x1b$B", "iso2022_jp_2"),
    (b"\x1b$@", "iso2022_jp_2"),
    (b"\x1b(J", "iso2022_jp_2"),
    (b"\x1b$)C", "iso2022_kr"),
)
# Labels as the web and mail use them (encoding.spec.whatwg.org): mostly for supersets of what they name.
_LABELS = {
    **dict.fromkeys(("gb2312", "gbk", "hz", "x-gbk", "cp936", "gb_2312-80", "chinese", "euc-cn"), "gb18030"),
    **dict.fromkeys(("euc_kr", "ks_c_5601-1987", "ks_c_5601", "ksc5601", "korean", "windows-949"), "cp949"),
    **dict.fromkeys(("shift_jis", "sjis", "x-sjis", "windows-31j", "ms_kanji"), "cp932"),
    **dict.fromkeys(("iso8859-1", "iso-8859-1", "latin1", "ansi", "x-ansi"), "cp1252"),
    **dict.fromkeys(("big5", "x-x-big5", "cn-big5", "cp950"), "big5hkscs"),
    **dict.fromkeys(("tis-620", "tis_620", "windows-874", "iso8859-11"), "cp874"),
    **dict.fromkeys(("iso-8859-8-i", "iso-8859-8-e", "logical"), "iso8859_8"),
    **dict.fromkeys(("iso2022_jp", "iso-2022-jp", "csiso2022jp"), "iso2022_jp_2"),
    **dict.fromkeys(("ascii", "us-ascii", "unicode-1-1-utf-8", "utf8mb4", "unicode", "utf-8-sig"), "utf-8"),
    **dict.fromkeys(("x-mac-cyrillic", "x-mac-ukrainian"), "mac_cyrillic"),
    **dict.fromkeys(("macintosh", "x-mac-roman"), "mac_roman"),
    **dict.fromkeys(("iso8859-9", "iso-8859-9"), "cp1254"),
    **dict.fromkeys(("koi8", "koi"), "koi8_r"),
}

_NAMES = {"cp932": "Shift-JIS", "cp949": "EUC-KR", "big5hkscs": "Big5", "iso2022_jp_2": "ISO-2022-JP"}


@dataclass(frozen=True, slots=True)
class Guess:
    """An encoding that Python knows, and how sure it is, from 0 to 1."""

    encoding: str
    confidence: float

    @property
    def name(self) -> str:
        """What people call the encoding."""
        return name_of(self.encoding)


@dataclass(frozen=True, slots=True)
class Decoded:
    """A text, the encoding it was read in, the guess where that was one, and how many characters were lost."""

    text: str
    encoding: str
    guess: Guess | None = None
    lost: int = 0


def name_of(encoding: str) -> str:
    """What people call an encoding that Python knows."""
    if encoding.startswith("cp125") or encoding == "cp874":
        return f"Windows-{encoding[2:]}"
    return _NAMES.get(encoding) or encoding.replace("8859_", "-8859-").replace("_", "-").upper()


def codec_named(label: str) -> str | None:
    """Python's codec for a label that a document declares; a superset of it where senders use one; None for no text codec."""
    label = label.strip().strip("\"'").lower()
    try:
        codec = _LABELS.get(label) or codecs.lookup(label).name
        codec = _LABELS.get(codec, codec)
        b"    ".decode(codec)
    except (LookupError, ValueError):
        return None
    return codec


def decode(content: bytes, *, declared: str | None = None) -> Decoded:
    """The text, in the declared encoding where that fits, else in the one that reads best. Never fails."""
    codec = codec_named(declared) if declared else None
    if codec and codec != "utf-8" and not (codec == "cp1252" and _is_utf8(content)):
        try:
            return Decoded(content.decode(codec), codec)
        except UnicodeDecodeError as error:
            if error.start > len(content) // 2 and error.start > 256:  # a slip in a text that fits otherwise
                return decode_as(content, codec)
    found = guess(content)
    return replace(decode_as(content, found.encoding), guess=found)


def decode_as(content: bytes, encoding: str) -> Decoded:
    """The text in an encoding; what is none in it is lost, and counted."""
    try:
        return Decoded(content.decode(encoding), encoding)
    except UnicodeDecodeError:
        text = content.decode(encoding, errors="replace")
        return Decoded(text, encoding, lost=text.count("\ufffd"))


def guess(content: bytes) -> Guess:
    """The most plausible encoding of a text that declares none."""
    if _is_utf8(content):
        return Guess(next((codec for mark, codec in _ESCAPES if mark in content), "utf-8"), 1.0)
    if (share := _utf8_share(content)) > _UTF8_SHARE_MIN:
        return Guess("utf-8", round(share, 2))
    ranked = [(share, codec, text) for codec, text, share in _candidates(_sample(content))]
    if not ranked:
        return Guess("cp1252", 0.0)
    share, codec, text = max(ranked, key=lambda one: one[0])  # the first of equals
    doubt = max((_doubt(share - other, text, reading) for other, _, reading in ranked), default=0.0)
    return Guess(codec, round(max(0.0, share) * (1 - doubt / 2), 2))


def _sample(content: bytes) -> bytes:
    """The first lines that hold more than ASCII: a line feed is no part of a character in any of the encodings."""
    lines: list[bytes] = []
    size = at = 0
    while size < SAMPLE_BYTES and at < len(content):
        end = content.find(b"\n", at) + 1 or len(content)
        if not (line := content[at:end]).isascii():
            lines.append(line[:SAMPLE_BYTES])
            size += len(lines[-1])
        at = end
    return b"".join(lines)


def _doubt(lead: float, text: str, reading: str) -> float:
    """From 0 to 1, how much another reading that is nearly as good speaks against this one: by how much of it differs."""
    if lead >= _LEAD_MIN or text == reading:
        return 0.0
    wide = sum(character > "\x7f" for character in text)
    differing = (
        sum(one != other for one, other in zip(text, reading, strict=True)) if len(text) == len(reading) else wide
    )
    return (1 - lead / _LEAD_MIN) * differing / max(1, wide)


def _is_utf8(content: bytes) -> bool:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _utf8_share(content: bytes) -> float:
    """How much of what is more than ASCII can be read as UTF-8: nearly all of a text that was cut or damaged somewhere."""
    text = content.decode("utf-8", errors="replace")
    lost = text.count("\ufffd")
    return 1 - lost / sum(character > "\x7f" for character in text)


def _candidates(sample: bytes) -> Iterator[tuple[str, str, float]]:
    """(codec, text, share of the characters that are in order) for each encoding in which the sample can be read."""
    readings: dict[str, _Reading | None] = {}
    for letters, codecs_of in _LATIN.values():
        alphabet = frozenset(letters + letters.upper()) - {"S"}
        for codec in codecs_of:
            if reading := _read(sample, codec, readings):
                yield codec, reading.text, reading.share(alphabet) * _RARE.get(codec, 1.0)
    for letters, codecs_of in _SCRIPTS.values():
        frequent, rest = letters.split("|")
        alphabet = frozenset(frequent + rest + frequent.upper() + rest.upper())
        for codec in codecs_of:
            if reading := _read(sample, codec, readings):
                share = reading.share(alphabet, latin=False) * reading.familiarity(frozenset(frequent), usual=0.75)
                yield codec, reading.text, share * _RARE.get(codec, 1.0)
    yield from _wide_candidates(sample)


def _wide_candidates(sample: bytes) -> Iterator[tuple[str, str, float]]:
    for codec, core, frequent in _WIDE:
        if text := _decoded(sample, codec):
            wide = [character for character in text if character > "\x7f"]
            share = _share_in(wide, core) * (0.6 + 0.4 * _familiar(wide, frozenset(frequent), usual=_FREQUENT_SHARE))
            yield codec, text, share
    for codec in _JAPANESE:
        if text := _decoded(sample, codec):
            wide = [character for character in text if character > "\x7f"]
            kana = frozenset(map(chr, range(0x3041, 0x30FF)))
            yield codec, text, _share_in(wide, "euc_jp") * (0.6 + 0.4 * _familiar(wide, kana, usual=0.2))


def _share_in(characters: list[str], core: str) -> float:
    """The share of characters in the frequent part of a national standard: its first rows of ideographs, its syllables."""
    counts = Counter(characters)
    good = sum(count for character, count in counts.items() if _is_usual(character, core))
    return good / max(1, len(characters))


def _is_usual(character: str, core: str) -> bool:
    if "｡" <= character <= "ﾟ":  # half-width katakana: what Latin letters look like in Shift-JIS
        return False
    try:
        lead = character.encode(core)[0]
    except UnicodeEncodeError:
        return False
    last = {"gb2312": 0xD7, "big5": 0xC6, "euc_kr": 0xC8, "euc_jp": 0xCF}[core]
    return 0xA1 <= lead <= last


def _familiar(characters: list[str], frequent: frozenset[str], *, usual: float) -> float:
    letters = [character for character in characters if character.isalpha()]
    if len(letters) < _LETTERS_MIN:
        return 1.0
    return min(1.0, sum(letter in frequent for letter in letters) / len(letters) / usual)


def _decoded(sample: bytes, codec: str) -> str | None:
    try:
        return codecs.getincrementaldecoder(codec)("strict").decode(sample)  # a character may be cut at the end
    except UnicodeDecodeError:
        return None


class _Reading:
    """A text in one 8-bit encoding, its characters beside ASCII counted with what is wrong about them."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.total = 0
        self._counts: Counter[tuple[str, bool, bool, bool]] = Counter()
        before = ""
        for index, character in enumerate(text):
            if character > "\x7f":
                after = text[index + 1 : index + 2]
                amid = before.isalpha() and after.isalpha()
                amid = amid or (character in _SIGNS and (before.isalpha() or after.isalpha()))
                alone = character.isalpha() and not (before.isalpha() or after.isalpha() or character in _WORDS)
                among = alone or (before.isalpha() and after.isalpha() and before > "\x7f" and after > "\x7f")
                beside_ascii = (before.isascii() and before.isalpha()) or (after.isascii() and after.isalpha())
                if before.islower() and character.isupper():
                    character = "\0"
                self._counts[character, amid, beside_ascii, among] += 1
                self.total += 1
            before = text[index]

    def share(self, alphabet: frozenset[str], *, latin: bool = True) -> float:
        good = 0
        for (character, amid, beside_ascii, among), count in self._counts.items():
            if character in _PUNCTUATION:
                good += count * (not amid or character in _APOSTROPHES)
            elif character in alphabet:
                good += count * (not among if latin else not beside_ascii)
        return good / max(1, self.total)

    def familiarity(self, frequent: frozenset[str], *, usual: float) -> float:
        """1 where the language's frequent letters are as frequent as usual; small letters, for capitals are rare."""
        letters = {key[0]: count for key, count in self._counts.items() if key[0].isalpha()}
        total = sum(letters.values())
        if total < _LETTERS_MIN:
            return 0.9
        small = sum(count for letter, count in letters.items() if not letter.isupper())
        known = sum(count for letter, count in letters.items() if letter.lower() in frequent)
        return min(1.0, known / total / usual) * (0.8 + 0.2 * small / total)


def _read(sample: bytes, codec: str, readings: "dict[str, _Reading | None]") -> "_Reading | None":
    if codec not in readings:
        text = _decoded(sample, codec)
        readings[codec] = _Reading(text) if text is not None else None
    return readings[codec]
