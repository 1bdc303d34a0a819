"""A desk where people sign in at a real provider, and a browser that has come to it."""

from collections.abc import AsyncIterator

import pytest
from tests.support.databases import own_database
from tests.support.identity_provider import IdentityProvider
from tests.support.sign_in_desk import Browser, SignInDesk, open_browser, open_sign_in_desk

from refdesk.app.embedded.stack import StackUrls


@pytest.fixture(scope="module")
async def served_provider() -> AsyncIterator[IdentityProvider]:
    async with IdentityProvider().serving() as provider:
        yield provider


@pytest.fixture(scope="module")
async def one_desk(servers: StackUrls, served_provider: IdentityProvider) -> AsyncIterator[SignInDesk]:
    async with own_database(servers) as url, open_sign_in_desk(url, served_provider) as desk:
        yield desk


@pytest.fixture
async def provider(one_desk: SignInDesk, served_provider: IdentityProvider) -> IdentityProvider:
    """Nobody has come to the desk yet, and its people are as they were at first."""
    served_provider.reset()
    served_provider.desk = one_desk.url
    await one_desk.empty()
    return served_provider


@pytest.fixture
def desk(one_desk: SignInDesk, provider: IdentityProvider) -> SignInDesk:
    return one_desk


@pytest.fixture
async def browser(desk: SignInDesk) -> AsyncIterator[Browser]:
    async with open_browser(desk) as browser:
        yield browser
