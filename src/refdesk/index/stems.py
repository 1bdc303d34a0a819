"""Words of other languages as their stems, so that a question for ``Rechnung`` finds ``Rechnungen``.

PostgreSQL stems all text of an index by one configuration: English, unless another is set. Words of other languages gain beside
that what their own Snowball stemmer makes of them, marked with the language: ``ger0rechnung``. Stop words tell which language a
text is in. Those of a short question may leave several open; then it has the stems of each. A wrong guess takes nothing away
(docs/adr/0059).
"""

import re
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from unicodedata import name as name_of

import snowballstemmer
from stop_words import AVAILABLE_LANGUAGES, get_stop_words

ENGLISH = "english"
LANGUAGES = tuple(sorted({*snowballstemmer.algorithms()} & {*AVAILABLE_LANGUAGES}))
LANGUAGES_MAX = 6
"""A text whose stop words leave more open is in none of them."""
WORDS_LOOKED_AT = 100
"""Of a text, to tell its language."""
ENGLISH_SHARE_MIN = 0.3
"""Of so many stop words no text of another language is: the others need not be counted."""
WORD_LETTERS_MAX = 40
STEMS_REMEMBERED = 16_384

_WORD = re.compile(r"[^\W\d_]{2,}")
_OF_SCRIPT = {"CYRILLIC": "russian", "GREEK": "greek", "ARABIC": "arabic", "DEVANAGARI": "hindi"}
"""Of a text without a stop word."""


def stems(text: str) -> Iterator[str]:
    """Of the words that carry meaning, for each language the text may be in; none of English."""
    words = [word.lower() for word in _WORD.findall(text) if len(word) <= WORD_LETTERS_MAX]
    for language in languages_of(words[:WORDS_LOOKED_AT]):
        stop = stop_words_of(language)
        for word in words:
            if word not in stop and (stem := _stem(language, word)):
                yield stem


def languages_of(words: Sequence[str]) -> list[str]:
    """Those that these words, in small letters, may be of: with most stop words among them. None where English may be one."""
    if words and sum(map(stop_words_of(ENGLISH).__contains__, words)) >= ENGLISH_SHARE_MIN * len(words):
        return []
    counted = {language: sum(word in stop_words_of(language) for word in words) for language in LANGUAGES}
    most = max(counted.values())
    if most == 0:
        return _of_script(words)
    likely = [language for language, count in counted.items() if count == most]
    return [] if ENGLISH in likely or len(likely) > LANGUAGES_MAX else likely


@cache
def stop_words_of(language: str) -> frozenset[str]:
    return frozenset(word.lower() for word in get_stop_words(language))


def _of_script(words: Sequence[str]) -> list[str]:
    script = name_of(words[0][0], "").split(" ")[0] if words else ""
    return [_OF_SCRIPT[script]] if script in _OF_SCRIPT else []


@lru_cache(maxsize=STEMS_REMEMBERED)
def _stem(language: str, word: str) -> str:
    """In letters and digits of ASCII, which any parser leaves whole: others by their number."""
    stem = _stemmer(language).stemWord(word)
    return f"{language[:3]}0" + "".join(one if one.isascii() else f"{ord(one):x}" for one in stem if one.isalpha())


@cache
def _stemmer(language: str) -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer(language)
