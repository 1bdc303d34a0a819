"""Every view in German: its heading, and a button or a column of it."""

import pytest
from playwright.async_api import expect
from tests.browser.conftest import PHONE, Open
from tests.support.running import Refdesk

pytestmark = pytest.mark.timeout(400)

VIEWS = {
    "documents": ("Dokumente", "#filters-clear", "Filter zurücksetzen"),
    "dead-letters": ("Aufgegeben", "#dead-letters-view button", "Alle wiederholen"),
    "keys": ("Schlüssel und Personen", "#keys-view th", "Zuletzt benutzt"),
    "operations": ("Betrieb", "#operations-view button", "Vergleichen und reparieren"),
    "usage": ("Verbrauch und Kosten", "#usage-head th", "Eingabe-Token"),
    "gaps": ("Lücken", "#gaps-view option", "vielleicht inzwischen beantwortet"),
    "feedback": ("Bewertungen", "#feedback-view option", "nicht hilfreich"),
    "audit": ("Wer hat was getan", "#audit-view th", "Vorgang"),
    "sessions": ("Wo Sie angemeldet sind", "#sessions-view .hint", "bis die Anmeldung endet"),
}
"""By name: its heading, where else something is said, and what."""


async def test_every_view_speaks_german(visit: Open, desk: Refdesk) -> None:
    """Numbers and plurals, too; and the longer words fit a phone."""
    await desk.settled(await desk.upload("Leuchtturm.md", b"Der Leuchtturm kostet nichts. " * 60))
    page = (await visit(viewport=PHONE)).page
    await page.evaluate('localStorage.setItem("refdesk.language", "de")')
    await page.reload()
    for name, (heading, place, words) in VIEWS.items():
        await page.evaluate(f'location.hash = "#{name}"')
        await expect(page.locator(f"#{name}-view h1")).to_have_text(heading)
        await expect(page.locator(place).filter(has_text=words).first).to_be_attached()
        await expect(page.locator(f"#{name}-view .problem:visible")).to_have_count(1 if name == "sessions" else 0)
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), name
    await page.evaluate('location.hash = "#documents"')
    await expect(page.locator("#documents-total")).to_have_text("1 Dokument")
    await expect(page.get_by_test_id("document-state")).to_have_text("bereit")
    await expect(page.get_by_test_id("document-about")).to_contain_text("2 kB")
    await page.get_by_test_id("document-details").click()
    await expect(page.locator("#document-facts")).to_contain_text("durchsuchbar nach ")
    await expect(page.locator("#document-facts")).to_contain_text(", Lesen 0,")
    await expect(page.get_by_test_id("version")).to_contain_text("angelegt")
