"""Structured texts keep what their marks say."""

from tests.support.reading import lines, read

from refdesk.outside import media_types as kinds


def test_xml_attributes_are_read() -> None:
    """Each element with words or attributes is a line; an element among words belongs to them."""
    source = (
        '<?xml version="1.0" encoding="iso-8859-1"?><stock hall="3"><!-- internal --><part no="B-12" unit=""><name>Größe 4</name>'
        '<note>For <b>cold</b> water.</note></part><part no="B-13"/></stock>'
    )
    assert lines(read(source.encode("latin-1"), kinds.XML)) == [
        *("item: stock: hall: 3", "item: part: no: B-12", "item: name: Größe 4", "item: note: For cold water."),
        "item: part: no: B-13",
    ]


def test_xml_in_another_encoding_is_read() -> None:
    """By its declaration; expat alone knows no East Asian one."""
    source = '<?xml version="1.0" encoding="GB18030"?><a><b>上午九点开门</b></a>'
    assert lines(read(source.encode("gb18030"), kinds.XML)) == ["item: a", "item: b: 上午九点开门"]


def test_entities_do_not_swell() -> None:
    """A document of a few lines that would unfold to gigabytes is not unfolded."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10 if n else "ha" * 10}">' for n in range(9))
    assert len(read(f"<!DOCTYPE x [{laughs}]><x>told <y>&l8;</y></x>", kinds.XML).text) < 1_000_000


def test_json_escapes_are_characters() -> None:
    """Those that must stay escaped stay."""
    source = (
        '{"k\\u00e4se": "\\u4e2d\\u6587 \\ud83d\\ude00", "path": "C:\\\\u0041", "quote": "\\u0022", "half": "\\ud83d"}'
    )
    assert (
        read(source, kinds.JSON).text
        == '{"käse": "中文 😀", "path": "C:\\\\u0041", "quote": "\\u0022", "half": "\\ud83d"}'
    )


def test_json_on_one_line_is_laid_out() -> None:
    """So that a passage is not cut in the middle of a name."""
    source = '{"rows": [' + ", ".join(f'{{"name": "part {n}", "price": {n}.5}}' for n in range(100)) + "]}"
    assert '"name": "part 7",\n   "price": 7.5' in read(source, kinds.JSON).text


def test_notes_in_restructured_text_are_read() -> None:
    """Notes and warnings say what people must not miss."""
    source = (
        "Title\n=====\n\nText.\n\n.. note:: Ring twice\n   after ten.\n\n"
        ".. warning::\n   :class: x\n\n   Never ring thrice.\n\nEnd.\n"
    )
    text = " ".join(read(source, kinds.RST).text.split())
    for said in ("Text.", "Note: Ring twice after ten.", "Warning:", "Never ring thrice.", "End."):
        assert said in text
