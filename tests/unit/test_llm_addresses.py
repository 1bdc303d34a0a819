"""The forms in which people write where a language model is, and the proxies on the way to it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.app.proxies import proxy_for
from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.http_proxy import Proxy
from refdesk.outside.llm.addresses import model_address


@pytest.mark.parametrize(
    ("url", "root", "paths", "query"),
    [
        ("http://host:8000", "http://host:8000", ("/v1", ""), ""),
        ("http://host:8000/", "http://host:8000", ("/v1", ""), ""),
        (" http://host:8000/v1//\n", "http://host:8000", ("/v1",), ""),
        ("https://host/v1/chat/completions", "https://host", ("/v1",), ""),
        ("https://host/v1/chat/completions/?a=b&c", "https://host", ("/v1",), "?a=b&c"),
        ("https://host/chat/completions", "https://host", ("/v1", ""), ""),
        ("https://host/v1/models", "https://host", ("/v1",), ""),
        ("https://host/gateway", "https://host", ("/gateway", "/gateway/v1"), ""),
        ("https://host/v1beta/openai/", "https://host", ("/v1beta/openai",), ""),
        ("https://host/api/v4#x", "https://host", ("/api/v4",), ""),
        ("http://[::1]:80/v1", "http://[::1]:80", ("/v1",), ""),
    ],
)
def test_every_form_names_the_place(url: str, root: str, paths: tuple[str, ...], query: str) -> None:
    """Without a version, both places are tried; with one, it is meant."""
    address = model_address(url)
    assert (address.root, address.paths, address.query) == (root, paths, query)
    assert address.authorization is None


def test_credentials_are_sent_and_not_shown() -> None:
    """As Basic authorization, with what the address escapes."""
    address = model_address("https://reader:p%40ss@host/v1?key=hidden")
    assert address.authorization == "Basic cmVhZGVyOnBAc3M="
    assert address.shown == "https://host/v1"


@pytest.mark.parametrize(
    "url", ["host:8000/v1", "ftp://host", "http://", "http://h:port", "http://[::1", "", "https:///v1"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    """By the setting's name."""
    with pytest.raises(ConfigurationError, match="REFDESK_LLM_URL"):
        model_address(url)


@given(st.text(max_size=40))
def test_no_text_breaks_it(text: str) -> None:
    """It is an address or it is refused, and a password is never repeated."""
    try:
        assert model_address("http://" + text).root
    except ConfigurationError as error:
        assert len(error.message) < 300


@pytest.mark.parametrize(
    ("url", "proxy"),
    [
        ("http://model.example/v1", "http://plain:3128"),
        ("https://model.example/v1", "http://user:pw@secure:3129"),
        ("https://a.inside.example/v1", None),
        ("http://127.0.0.1:11434/v1", None),
        ("http://[::1]:11434", None),
        ("http://localhost:11434", None),
    ],
)
def test_proxies_are_those_of_the_environment(url: str, proxy: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """By scheme, but for hosts in NO_PROXY and for this machine."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ALL_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://plain:3128")
    monkeypatch.setenv("HTTPS_PROXY", "http://user:pw@secure:3129")
    monkeypatch.setenv("NO_PROXY", ".inside.example")
    assert proxy_for(url) == proxy


def test_a_proxy_is_read_without_showing_its_password() -> None:
    """A scheme may be left out; one that is no HTTP proxy is refused."""
    proxy = Proxy("user:p%40ss@proxy.example:3128")
    assert (proxy.shown, proxy.secure) == ("proxy.example:3128", False)
    assert proxy.headers == {"Proxy-Authorization": "Basic dXNlcjpwQHNz"}
    assert Proxy("https://proxy.example").port == 443
    with pytest.raises(ConfigurationError, match="NO_PROXY") as refused:
        Proxy("socks5://user:secret@proxy.example")
    assert "secret" not in refused.value.message
