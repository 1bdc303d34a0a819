"""Words of other languages as their stems, so that a question for ``Rechnung`` finds ``Rechnungen``.

PostgreSQL stems all text of an index by one configuration: English, unless another is set. Words of other languages gain beside
that what the Snowball stemmer of their own language makes of them. Stop words tell which language a text is in. A wrong guess
takes nothing away (docs/adr/0059).
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache, lru_cache
from unicodedata import name as name_of

import snowballstemmer
from stop_words import AVAILABLE_LANGUAGES, get_stop_words

ENGLISH = "english"
LANGUAGES = tuple(sorted({*snowballstemmer.algorithms()} & {*AVAILABLE_LANGUAGES}))
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
    """Of the words that carry meaning, where it is another than the word; none of an English text."""
    words = [word.lower() for word in _WORD.findall(text) if len(word) <= WORD_LETTERS_MAX]
    language = language_of(words[:WORDS_LOOKED_AT])
    if language is None or language == ENGLISH:
        return
    for word in words:
        if word not in stop_words_of(language) and (stem := _stem(language, word)) != word:
            yield stem


def language_of(words: Sequence[str]) -> str | None:
    """The language of these words, in small letters: whose stop words they are. One that few languages have counts for more."""
    if words and len([*filter(stop_words_of(ENGLISH).__contains__, words)]) >= ENGLISH_SHARE_MIN * len(words):
        return ENGLISH
    scores: defaultdict[str, float] = defaultdict(float)
    for word in words:
        known = _languages_with(word)
        for language in known:
            scores[language] += 1 / len(known)
    if not scores:
        return _of_script(words)
    best = max(scores, key=scores.__getitem__)
    return best if sum(score == scores[best] for score in scores.values()) == 1 else None


@cache
def stop_words_of(language: str) -> frozenset[str]:
    return frozenset(word.lower() for word in get_stop_words(language))


@lru_cache(maxsize=STEMS_REMEMBERED)
def _languages_with(word: str) -> tuple[str, ...]:
    """Those that have it as a stop word."""
    return tuple(language for language in LANGUAGES if word in stop_words_of(language))


def _of_script(words: Sequence[str]) -> str | None:
    script = name_of(words[0][0], "").split(" ")[0] if words else ""
    return _OF_SCRIPT.get(script)


@lru_cache(maxsize=STEMS_REMEMBERED)
def _stem(language: str, word: str) -> str:
    return str(_stemmer(language).stemWord(word))


@cache
def _stemmer(language: str) -> snowballstemmer.stemmer:
    return snowballstemmer.stemmer(language)
