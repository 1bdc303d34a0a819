"""Signing in at `oidc-provider` from npm, which the OpenID Foundation has certified: in a real browser, from end to end."""

import asyncio
import contextlib
import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect
from tests.support.running import Refdesk, start, until

from refdesk.app.embedded.nats import free_port

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]

VERSION = "9"
INSTALL_S_MAX = 300.0
SCRIPT = Path(__file__).parents[1] / "support" / "certified_provider.mjs"
RECHECK_S = 2.0


class CertifiedProvider:
    """The process, and what is told to it."""

    def __init__(self, process: asyncio.subprocess.Process, issuer: str) -> None:
        self.issuer = issuer
        self._process = process

    async def said(self, word: str) -> None:
        assert self._process.stdout
        async with asyncio.timeout(60):
            while (line := await self._process.stdout.readline()).strip() != word.encode():
                assert line, "oidc-provider has ended"

    async def change(self, **person: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(person).encode() + b"\n")
        await self.said("noted")


@pytest.fixture(scope="module")
async def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which `oidc-provider` can be imported."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("THE CERTIFIED PROVIDER IS NOT TRIED: there is no node, or no npm, on PATH.")
    folder = tmp_path_factory.mktemp("oidc-provider")
    install = await asyncio.create_subprocess_exec(
        *("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", f"oidc-provider@{VERSION}"),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(INSTALL_S_MAX):
        out, _ = await install.communicate()
    if install.returncode != 0:
        pytest.skip(f"THE CERTIFIED PROVIDER IS NOT TRIED: npm cannot install it. {out.decode()[-500:]}")
    shutil.copy(SCRIPT, folder)
    return folder


@contextlib.asynccontextmanager
async def serving(package: Path, *, port: int, desk_url: str) -> AsyncIterator[CertifiedProvider]:
    process = await asyncio.create_subprocess_exec(
        *("node", SCRIPT.name, str(port), desk_url),
        cwd=package,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        provider = CertifiedProvider(process, f"http://127.0.0.1:{port}")
        await provider.said("listening")
        yield provider
    finally:
        process.kill()
        await process.wait()


@pytest.fixture(scope="module")
async def certified(
    package: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Refdesk, CertifiedProvider]]:
    """A desk, which is there before its provider: it starts without it."""
    port = free_port()
    settings = {
        "REFDESK_OIDC_ISSUER": f"http://127.0.0.1:{port}",
        "REFDESK_OIDC_CLIENT_ID": "refdesk",
        "REFDESK_OIDC_CLIENT_SECRET": "the-desks-secret",
        "REFDESK_OIDC_SCOPES": "openid profile groups offline_access",
        "REFDESK_OIDC_AUDIENCE": "https://desk.example/api",
        "REFDESK_OIDC_RECHECK_S": f"{RECHECK_S}",
        "REFDESK_OIDC_KEYS_PAUSE_S": "1",
    }
    desk = await start(tmp_path_factory.mktemp("certified"), "--no-samples", **settings)
    try:
        await desk.ready()
        async with serving(package, port=port, desk_url=desk.url) as provider:

            async def known() -> bool:
                parts = (await desk.call("GET", "/health/ready?verbose"))["parts"]
                return bool(parts["identity provider"] == "ok")

            await until(known, what="the desk has found its provider", within_s=60)
            yield desk, provider
    finally:
        await desk.stop()


@pytest.fixture
async def page(browser: Browser, certified: tuple[Refdesk, CertifiedProvider]) -> AsyncIterator[Page]:
    """Signed in as Ada, by the provider's own forms."""
    desk, provider = certified
    await provider.change(groups=["hr"], active=True)
    context = await browser.new_context()
    page = await context.new_page()
    await page.goto(desk.url)
    await page.locator("#key-sign-in").click()
    await page.locator("input[name=login]").fill("ada")
    await page.locator("input[name=password]").fill("any")
    await page.locator("button[type=submit]").click()
    await page.locator("button[type=submit]").click()
    await expect(page.get_by_test_id("signed-in-as")).to_have_text("Ada Lovelace")
    yield page
    await context.close()


async def me(page: Page, desk: Refdesk) -> tuple[int, list[str]]:
    """Status and groups."""
    response = await page.request.get(desk.url + "/api/me")
    return response.status, (await response.json()).get("groups", [])


async def test_sign_in_refresh_and_a_changed_group(page: Page, certified: tuple[Refdesk, CertifiedProvider]) -> None:
    """Groups come from its user info; rotated refresh tokens go on working, and bring what has changed."""
    desk, provider = certified
    assert await me(page, desk) == (200, ["hr"])
    for groups in (["legal"], ["hr", "legal"], []):
        await provider.change(groups=groups)

        async def followed(groups: list[str] = groups) -> bool:
            return await me(page, desk) == (200, groups)

        await until(followed, what=f"groups are {groups}", within_s=30)


async def test_a_person_who_is_taken_out_there_is_out_here(
    page: Page, certified: tuple[Refdesk, CertifiedProvider]
) -> None:
    """The refresh is refused."""
    desk, provider = certified
    await provider.change(active=False)

    async def out() -> bool:
        return (await me(page, desk))[0] == 401

    await until(out, what="the session is over", within_s=30)


async def test_signing_out_here_signs_out_there(page: Page, certified: tuple[Refdesk, CertifiedProvider]) -> None:
    """The provider asks, and sends the browser back; it knows nobody then."""
    desk, _ = certified
    await page.locator("#sign-out").click()
    await page.get_by_role("button", name="Yes").click()
    await expect(page.locator("#sign-in")).to_be_visible()
    assert page.url == desk.url + "/"
    await page.locator("#key-sign-in").click()
    await expect(page.locator("input[name=login]")).to_be_visible()


async def test_signing_out_there_signs_out_here(page: Page, certified: tuple[Refdesk, CertifiedProvider]) -> None:
    """By back-channel logout: no request of the browser's tells the desk."""
    desk, provider = certified
    assert (await me(page, desk))[0] == 200
    elsewhere = await page.context.new_page()
    await elsewhere.goto(provider.issuer + "/session/end")
    await elsewhere.get_by_role("button", name="Yes").click()

    async def out() -> bool:
        return (await me(page, desk))[0] == 401

    await until(out, what="the session is over", within_s=10)


async def test_its_access_tokens_are_keys(certified: tuple[Refdesk, CertifiedProvider]) -> None:
    """Of a program of its own, for the desk's audience; a token without that is none."""
    desk, provider = certified
    program = {"Authorization": aiohttp.encode_basic_auth("program", "the-desks-secret")}
    async with aiohttp.ClientSession() as session:

        async def status(**form: str) -> int:
            asked = {"grant_type": "client_credentials", **form}
            async with session.post(provider.issuer + "/token", data=asked, headers=program) as response:
                token = (await response.json())["access_token"]
            async with session.get(desk.url + "/api/me", headers={"Authorization": f"Bearer {token}"}) as response:
                return response.status

        assert await status(resource="https://desk.example/api") == 200
        assert await status() == 401
