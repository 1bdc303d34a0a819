"""The rules and the dashboard on a real Prometheus that scrapes a real desk: every query is answered with data."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from tests.support.running import Refdesk, running, until
from tests.support.scripted_llm import ScriptedLlm

from refdesk.app.embedded.nats import free_port

MONITORING = Path(__file__).parents[2] / "docs" / "monitoring"
RULES = MONITORING / "refdesk.rules.yml"
RUNBOOK = MONITORING.parent / "howto" / "alerts.md"
PROMETHEUS, PROMTOOL = shutil.which("prometheus"), shutil.which("promtool")
NEEDS = "RULES AND DASHBOARD ARE NOT TESTED: there is no Prometheus on PATH. Install it (Debian: prometheus)."
SCRAPE_S = 1

pytestmark = pytest.mark.timeout(400)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def panels() -> list[tuple[str, str]]:
    """(title, query), with the interval that Grafana would put in."""
    dashboard = json.loads((MONITORING / "dashboard.json").read_text())
    return [
        (panel["title"], target["expr"].replace("$__rate_interval", "1m"))
        for panel in dashboard["panels"]
        for target in panel["targets"]
    ]


def test_every_alert_has_a_page_of_its_own() -> None:
    """What it means, and what to do; the rule names it."""
    headings = set(re.findall(r"^## (\w+)$", RUNBOOK.read_text(), re.MULTILINE))
    alerts = {rule["alert"]: rule["annotations"]["runbook"] for rule in rules() if "alert" in rule}
    assert headings == set(alerts)
    assert all(page == f"docs/howto/alerts.md#{name.lower()}" for name, page in alerts.items())


@pytest.mark.skipif(PROMTOOL is None, reason=NEEDS)
async def test_alerts_fire_when_they_should_and_not_before(tmp_path: Path) -> None:
    """By Prometheus' own test tool."""
    firing = [
        ("RefdeskIndexLag", 'refdesk_index_lag_seconds{instance="a"}', "0+20x60", "9m", "45m"),
        ("RefdeskPeerDown", 'refdesk_peer_up{process="indexer"}', "1x9 0x60", "9m", "20m"),
        ("RefdeskDeadLetters", "refdesk_dlq_size", "0x9 3x60", "9m", "40m"),
        ("RefdeskLineFull", 'refdesk_admission_total{decision="refused",reason="capacity"}', "0x9 0+5x60", "8m", "30m"),
        ("RefdeskAnswersFail", 'refdesk_answers_total{outcome="model-failed"}', "0+6x60", "1m", "30m"),
        ("RefdeskDiskFull", "refdesk_content_free_bytes", "5e9x9 1e8x60", "9m", "30m"),
    ]
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": series, "values": values}],
            "promql_expr_test": [
                {
                    "expr": f'count(ALERTS{{alertname="{name}",alertstate="firing"}}) or vector(0)',
                    "eval_time": at,
                    "exp_samples": [{"labels": "{}", "value": count}],
                }
                for at, count in ((quiet, 0), (loud, 1))
            ],
        }
        for name, series, values, quiet, loud in firing
    ]
    file = tmp_path / "tests.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    assert await _run(PROMTOOL, "check", "rules", str(RULES)) == 0
    assert await _run(PROMTOOL, "test", "rules", str(file)) == 0


async def _run(*command: str | None) -> int:
    process = await asyncio.create_subprocess_exec(*map(str, command))
    return await process.wait()


class Prometheus:
    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def query(self, expression: str) -> list[Any]:
        """The result; none while it does not answer."""
        try:
            async with self._session.get(f"{self._url}/api/v1/query", params={"query": expression}) as reply:
                told = await reply.json()
        except aiohttp.ClientError:
            return []
        assert told.get("status") == "success", (expression, told)
        return list(told["data"]["result"])


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Refdesk]:
    """One that has answered, refused and indexed something."""
    prices = {"REFDESK_LLM_PRICES": "scripted 1/2", "REFDESK_USAGE_INTERVAL_S": "0.5", "REFDESK_LLM_MODEL": "scripted"}
    async with (
        ScriptedLlm().serving() as llm,
        running(tmp_path, "--no-samples", "--llm", llm.url, **prices) as desk,
    ):
        await desk.settled(await desk.upload("leave.md", b"# Leave\n\nThirty days of leave are due each year."))
        yield desk


@pytest.fixture
async def prometheus(desk: Refdesk, tmp_path: Path) -> AsyncIterator[Prometheus]:
    port, configuration = free_port(), tmp_path / "prometheus.yml"
    target = desk.url.removeprefix("http://")
    settings = {
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"},
        "rule_files": [str(RULES)],
        "scrape_configs": [{"job_name": "refdesk", "static_configs": [{"targets": [target]}]}],
    }
    configuration.write_text(yaml.safe_dump(settings))
    process = await asyncio.create_subprocess_exec(
        str(PROMETHEUS),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=error",
    )
    try:
        async with aiohttp.ClientSession() as session:
            yield Prometheus(f"http://127.0.0.1:{port}", session)
    finally:
        process.terminate()
        await process.wait()


@pytest.mark.skipif(PROMETHEUS is None, reason=NEEDS)
async def test_every_rule_and_every_panel_is_answered_with_data(desk: Refdesk, prometheus: Prometheus) -> None:
    """While questions come; and nothing fires on a desk that is well."""
    asked = 0

    async def all_answered() -> bool:
        nonlocal asked
        asked += 1
        await desk.ask(f"How many days of leave, number {asked}?", cache="bypass")
        return not await missing(prometheus)

    await until(all_answered, what="every query has data", within_s=120)
    assert await prometheus.query('ALERTS{alertstate="firing",severity!="info"}') == []
    assert {one["metric"]["process"] for one in await prometheus.query("refdesk_peer_up == 1")} == {"indexer"}


async def missing(prometheus: Prometheus) -> list[str]:
    queries = [(rule["record"], rule["record"]) for rule in rules() if "record" in rule]
    return [title for title, query in [*queries, *panels()] if not await prometheus.query(query)]
