"""The small parts of signing in: where it may lead, what cookies are called, who claims make somebody."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refdesk.access.cookies import cookies_for
from refdesk.access.oidc.attempts import Attempts, safe_return
from refdesk.access.oidc.people import Mapped, principal_id, read_groups, read_roles
from refdesk.access.oidc.tokens import InvalidToken, read_header
from refdesk.access.sealing import KeptTokens, sealed, unsealed
from refdesk.app.sign_in import public_url
from refdesk.contracts.access import EVERYONE, is_reader
from refdesk.contracts.errors import ConfigurationError, SignInFailed
from refdesk.settings.tree import Settings

ISSUER = "https://login.example.org/realms/staff"


# where it leads


@pytest.mark.parametrize("path", ["/", "/#documents", "/#document/d1/4", "/?q=leave", "/api/me"])
def test_a_path_of_the_desk_is_returned_to(path: str) -> None:
    """With its query and fragment."""
    assert safe_return(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *("//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example", "evil"),
        *("/\r\nSet-Cookie: a=b", "/a\tb", "/ /evil.example", "javascript:alert(1)", "/\u2028", "", "/" + "a" * 1000),
    ],
)
def test_anything_else_leads_to_the_desks_beginning(path: str) -> None:
    """Another host, however it is written, and what is no path."""
    assert safe_return(path) == "/"


@given(st.text(max_size=50))
def test_whatever_is_asked_for_stays_on_the_desk(path: str) -> None:
    """One slash at its beginning, and nothing that a browser or a header reads otherwise."""
    safe = safe_return(path)
    assert safe.startswith("/")
    assert not safe.startswith(("//", "/\\"))
    assert safe.isascii()
    assert safe.isprintable()


# attempts


def test_an_attempt_is_recognised_by_its_browser_alone() -> None:
    """With the nonce and verifier that it began with; no other secret, and no other state, finds it."""
    attempts = Attempts(s_max=600, now=lambda: 1000.0)
    begun, other = attempts.begin(None, "/#documents"), attempts.begin(None, "/")
    assert attempts.recognise(begun.secret, begun.state) == begun
    assert begun.return_to == "/#documents"
    for secret, state in [
        (other.secret, begun.state),
        (begun.secret, other.state),
        (None, begun.state),
        ("", begun.state),
        (begun.secret, ""),
        (begun.secret, begun.state + "a"),
        (begun.secret, begun.state.replace(".", "..", 1)),
        (begun.secret, "é" + begun.state[1:]),
    ]:
        with pytest.raises(SignInFailed):
            attempts.recognise(secret, state)


def test_two_attempts_of_one_browser_share_nothing_that_is_sent() -> None:
    """Tabs keep one secret; states, nonces and verifiers differ."""
    attempts = Attempts(s_max=600)
    one = attempts.begin(None, "/")
    other = attempts.begin(one.secret, "/")
    assert one.secret == other.secret
    assert len({one.state, one.nonce, one.verifier, other.state, other.nonce, other.verifier}) == 6
    assert one.challenge != one.verifier
    assert attempts.recognise(one.secret, one.state).verifier == one.verifier


def test_an_attempt_that_takes_too_long_is_over() -> None:
    """By our clock, whatever the browser keeps."""
    now = 1000.0
    attempts = Attempts(s_max=600, now=lambda: now)
    begun = attempts.begin(None, "/")
    now = 1601.0
    with pytest.raises(SignInFailed, match="too long"):
        attempts.recognise(begun.secret, begun.state)


@given(st.text(max_size=200), st.text(max_size=200))
def test_any_state_is_refused_or_recognised(secret: str, state: str) -> None:
    """Nothing else is raised for it."""
    with pytest.raises(SignInFailed):
        Attempts(s_max=600).recognise(secret, state)


# cookies


def test_cookies_by_https_belong_to_the_host_alone() -> None:
    """`__Host-`, which browsers let no neighbour set; and `HttpOnly`, which no script reads."""
    cookies = cookies_for("https://desk.example")
    assert cookies.session("value", age_s=60) == (
        "__Host-refdesk=value; Path=/; Max-Age=60; HttpOnly; SameSite=Lax; Secure"
    )
    assert cookies.no_session().startswith("__Host-refdesk=; Path=/; Max-Age=0; ")
    assert cookies.attempt_name == "__Host-refdesk-signing-in"
    assert cookies.origin == "https://desk.example"


def test_desks_below_paths_of_one_host_do_not_take_each_others_cookies() -> None:
    """Their names differ; the path cannot say so in a `__Host-` cookie."""
    names = {cookies_for(f"https://intranet.example{path}").session_name for path in ("", "/desk", "/other")}
    assert len(names) == 3
    assert all(name.startswith("__Host-refdesk") for name in names)
    assert cookies_for("https://intranet.example:8443/desk/").origin == "https://intranet.example:8443"


def test_loopback_by_plain_http_has_cookies_of_another_name() -> None:
    """One for each port, since cookies do not know ports; and never `Secure`, which a browser would refuse."""
    cookies = cookies_for("http://127.0.0.1:8080")
    assert cookies.session_name == "refdesk-loopback-8080"
    assert "Secure" not in cookies.session("value", age_s=60)
    assert cookies_for("http://[::1]:9000").origin == "http://[::1]:9000"


def test_people_do_not_sign_in_by_plain_http_from_elsewhere() -> None:
    """The start says what to do."""
    with pytest.raises(ConfigurationError, match="REFDESK_PUBLIC_URL"):
        cookies_for("http://desk.example")
    with pytest.raises(ConfigurationError, match="REFDESK_PUBLIC_URL"):
        public_url(Settings.of(host="0.0.0.0"))
    assert public_url(Settings.of(port=9000)) == "http://127.0.0.1:9000"


# who somebody is


def test_a_person_is_their_issuer_and_subject() -> None:
    """For ever the same id, which readers can name; another issuer's subject is another person."""
    assert principal_id(ISSUER, "ada") == principal_id(ISSUER, "ada")
    assert len({principal_id(ISSUER, "ada"), principal_id(ISSUER, "bob"), principal_id("https://other", "ada")}) == 3
    assert is_reader("principal:" + principal_id(ISSUER, "ada"))


def test_groups_are_mapped_by_the_setting() -> None:
    """Those that it does not name are left out, unless it says `*`."""
    groups = ["Staff HR", "legal", "everyone", "principal:u1", "with space", "administrators"]
    claims = {"sub": "ada", "name": "Ada", "groups": groups}

    def of(text: str | None) -> tuple[str, ...]:
        return Mapped(groups=read_groups(text, setting="X")).principal(ISSUER, claims, groups).groups

    assert of(None) == ("legal",)
    assert of("Staff HR=hr") == ("hr",)
    assert of("Staff HR=hr, *") == ("hr", "legal")
    assert of('{"Staff HR": "hr", "legal": "law"}') == ("hr", "law")


@pytest.mark.parametrize(
    "text", ["a=everyone", "a=not a group", "a=administrators", "a=editors", "a", "=b", "{", '{"a": 1}']
)
def test_a_mapping_that_means_nothing_is_refused(text: str) -> None:
    """Groups that stand for roles are given by no group."""
    with pytest.raises(ConfigurationError, match="X "):
        read_groups(text, setting="X")


def test_roles_are_given_by_their_own_setting() -> None:
    """The first that fits; without one, the least."""
    mapped = Mapped(roles=read_roles("Authors=writer, Staff=asker", setting="X"))
    assert mapped.principal(ISSUER, {"sub": "ada"}, ["Staff", "Authors"]).role == "writer"
    assert mapped.principal(ISSUER, {"sub": "ada"}, ["administrators"]).role == "asker"
    with pytest.raises(ConfigurationError, match="X gives a role"):
        read_roles("Authors=king", setting="X")


def test_a_claim_may_be_one_level_down_or_one_text() -> None:
    """As Keycloak and others have it; and what is no list of texts names no group."""
    assert Mapped(claim="realm_access.roles").groups_of({"realm_access": {"roles": ["hr"]}}) == ("hr",)
    assert Mapped(claim="https://x.example/groups").groups_of({"https://x.example/groups": "hr"}) == ("hr",)
    assert Mapped().groups_of({"groups": [1, None, {"a": 1}]}) == ()
    assert Mapped().groups_of({"groups": {"hr": True}}) == ()
    assert Mapped().groups_of({}) is None
    assert Mapped(claim="a.b").groups_of({"a": "b"}) is None


def test_a_name_hides_nothing() -> None:
    """Invisible characters go, and a name of a megabyte is cut."""
    name = Mapped().principal(ISSUER, {"sub": "s", "name": "Ada\u202e \x00 Love\nlace" + "x" * 9999}, []).name
    assert name.startswith("Ada Love lace")
    assert len(name) <= 200
    assert EVERYONE not in Mapped().principal(ISSUER, {"sub": "s"}, [EVERYONE]).groups


# tokens that are put away, and headers of tokens


def test_only_the_cookie_opens_what_it_sealed() -> None:
    """Another one finds nothing, nor does it find what was changed."""
    tokens = KeptTokens(refresh="refresh", id="id")
    data = sealed(tokens, "cookie")
    assert unsealed(data, "cookie") == tokens
    assert b"refresh" not in data
    for other in (data[:-1], data[:5], b"", bytes([data[0] ^ 1]) + data[1:]):
        assert unsealed(other, "cookie") == KeptTokens()
    assert unsealed(data, "other") == KeptTokens()


@given(st.text(max_size=200))
def test_what_is_no_token_is_said_to_be_none(text: str) -> None:
    """Nothing else is raised for it."""
    for token in (text, f"{text}.{text}.{text}", f"{'W' * 5000}.a.b", "W1tb.a.b"):
        with pytest.raises(InvalidToken):
            read_header(token)
