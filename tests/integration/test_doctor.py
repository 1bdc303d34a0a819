"""`refdesk doctor` on real servers, on broken ones and on none."""

import socket
from pathlib import Path
from typing import Any

import pytest
from starlette.requests import Request
from starlette.types import ASGIApp
from tests.integration.documents_desk import serving
from tests.support.packaged_vocabulary import packaged_tokenizer
from tests.support.rerank_server import rerank_server

from refdesk.app.commands import checks
from refdesk.app.commands.checks import CHECKS, examine, machine
from refdesk.app.commands.checks.findings import Finding
from refdesk.app.embedded.stack import StackUrls
from refdesk.app.health import Health, Part, health_endpoints
from refdesk.contracts.access import Principal
from refdesk.contracts.errors import Unavailable
from refdesk.outside.embedding import graph as embedding_graph
from refdesk.settings.loading import load
from refdesk.web.endpoints import Endpoint
from refdesk.web.http import create_app
from refdesk.web.replies import Json

GONE = "127.0.0.1:1"


async def found(data_dir: Path, **settings: Any) -> dict[str, Finding]:
    """The findings by name; a free port unless one is given."""
    given = {"data_dir": data_dir, "port": 0, "url": f"http://{GONE}", **settings}
    findings = await examine(load(given, environ={}))
    assert len({finding.name for finding in findings}) == len(findings)
    return {finding.name: finding for finding in findings}


def levels(findings: dict[str, Finding]) -> dict[str, str]:
    return {name: finding.level for name, finding in findings.items()}


async def test_on_a_fresh_machine_all_is_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs and weights are there; that no Refdesk runs yet is no more than a warning. Nothing is made."""
    monkeypatch.chdir(tmp_path)
    loaded = load({"data_dir": tmp_path / "new", "port": 0}, environ={})
    findings = await examine(loaded)
    assert {finding.name for finding in findings if finding.level == "FAIL"} == set()
    assert not (tmp_path / "new").exists()


async def test_servers_that_answer_are_told_with_their_versions(tmp_path: Path, servers: StackUrls) -> None:
    """And their programs are not looked for."""
    findings = await found(
        tmp_path, database_url=servers.documents_database_url, nats_url=servers.nats_url, valkey_url=servers.valkey_url
    )
    assert {findings[name].level for name in ("database", "NATS", "Valkey")} == {"ok"}
    assert "pgvector" in findings["database"].what
    assert "PostgreSQL program" not in findings


async def test_everything_that_is_away_is_named_with_its_setting_and_without_its_password(tmp_path: Path) -> None:
    """One line each: what, and what to do."""
    findings = await found(
        tmp_path,
        documents_database_url=f"postgresql://refdesk:geheim@{GONE}/refdesk",
        nats_url=f"nats://refdesk:geheim@{GONE}",
        valkey_url=f"redis://:geheim@{GONE}",
        llm_url=f"http://{GONE}/v1",
        llm_model="m",
        embedding_url=f"http://{GONE}/v1",
        embedding_model="e",
        documents_url=f"http://{GONE}",
    )
    for name, setting in (
        ("documents database", "REFDESK_DOCUMENTS_DATABASE_URL"),
        ("NATS", "REFDESK_NATS_URL"),
        ("Valkey", "REFDESK_VALKEY_URL"),
        ("language model", "REFDESK_LLM_URL"),
        ("embeddings", "REFDESK_EMBEDDING_URL"),
        ("Document Service", "REFDESK_DOCUMENTS_URL"),
        ("running Refdesk", "REFDESK_URL"),
    ):
        assert findings[name].level == "FAIL", name
        assert setting in findings[name].mend, name
        assert "geheim" not in str(findings[name]) and "\n" not in str(findings[name])


@pytest.mark.parametrize(
    "settings",
    [{"database_url": "nonsense"}, {"nats_url": "::"}, {"valkey_url": "http://x"}, {"llm_url": "x", "llm_model": "m"}],
)
async def test_an_address_that_is_none_is_a_finding(tmp_path: Path, settings: dict[str, str]) -> None:
    """Not a traceback."""
    assert "FAIL" in levels(await found(tmp_path, **settings)).values()


@pytest.mark.parametrize(("name", "setting"), [("llm_url", "LLM_MODEL"), ("embedding_url", "EMBEDDING_MODEL")])
async def test_a_url_without_its_model_is_told(tmp_path: Path, name: str, setting: str) -> None:
    """The service would refuse to start."""
    findings = await found(tmp_path, **{name: f"http://{GONE}"})
    assert any(finding.level == "FAIL" and setting in finding.what for finding in findings.values())


async def models(request: Request, _: Principal) -> ASGIApp:
    if request.headers.get("authorization") != "Bearer right":
        return Json({"error": "no"}, status_code=401)
    return Json({"data": [{"id": "small", "embedding": [0.5, 0.5, 0.5]}]})


async def chat(request: Request, _: Principal) -> ASGIApp:
    asked = await request.json()
    if request.headers.get("authorization") != "Bearer right":
        return Json({"error": "no"}, status_code=401)
    if asked["model"] != "small":
        return Json({"error": {"message": f"The model {asked['model']} does not exist."}}, status_code=404)
    return Json({"choices": [{"message": {"content": "ready"}, "finish_reason": "stop"}]})


def endpoint(method: Any, path: str, handler: Any) -> Endpoint:
    return Endpoint(method=method, path=path, action="page.read", handler=handler, summary="")


async def nobody(_: object) -> None:
    return None


@pytest.mark.parametrize(
    ("model", "key", "level", "words"),
    [
        ("small", "right", "ok", "small answers"),
        ("large", "right", "FAIL", "does not exist"),
        ("small, large", "right", "FAIL", "large"),
        ("small", "wrong", "FAIL", "refuses the key"),
    ],
)
async def test_each_language_model_is_asked_one_question(
    tmp_path: Path, model: str, key: str, level: str, words: str
) -> None:
    """With its key, and by name; of one that is not there, the others are named."""
    listing, answering = endpoint("GET", "/v1/models", models), endpoint("POST", "/v1/chat/completions", chat)
    app = create_app([listing, answering], authenticate=nobody)
    async with serving(app) as url:
        findings = await found(tmp_path, llm_url=f"{url}/v1", llm_model=model, llm_api_key=key)
    finding = findings["language model large" if "," in model else "language model"]
    assert (finding.level, words in finding.what) == (level, True)
    assert ("small" in finding.mend) is ("large" in model)


async def test_the_embedding_server_is_asked_for_a_vector(tmp_path: Path) -> None:
    """Its dimensions are told."""
    app = create_app([endpoint("POST", "/v1/embeddings", models)], authenticate=nobody)
    async with serving(app) as url:
        settings = {"embedding_url": f"{url}/v1", "embedding_model": "small"}
        right = await found(tmp_path, **settings, embedding_api_key="right")
        wrong = await found(tmp_path, **settings, embedding_api_key="wrong")
    assert (right["embeddings"].level, "3 dimensions" in right["embeddings"].what) == ("ok", True)
    assert (wrong["embeddings"].level, "EMBEDDING_API_KEY" in wrong["embeddings"].mend) == ("FAIL", True)
    assert "embedding model" not in right


async def test_the_reranker_is_asked_to_order_two_words(tmp_path: Path) -> None:
    """One that is away is a warning, since search goes on; a folder that is not whole stops a start."""
    async with rerank_server("tei") as server:
        assert (await found(tmp_path, rerank_url=server.url))["reranker"].level == "ok"
        server.status = 401
        refused = (await found(tmp_path, rerank_url=server.url))["reranker"]
    assert (refused.level, "answers 401" in refused.what) == ("warn", True)
    broken = (await found(tmp_path, rerank_model=str(tmp_path)))["reranker"]
    assert (broken.level, "has no ONNX graph" in broken.what) == ("FAIL", True)


async def test_a_running_refdesk_is_asked_for_its_parts_and_whether_it_knows_us(tmp_path: Path) -> None:
    """A part that is away is named."""

    async def away() -> None:
        raise Unavailable("It does not answer.")

    async def keys(request: Request, _: Principal) -> ASGIApp:
        known = request.headers.get("authorization") == "Bearer known"
        return Json({"keys": []}, status_code=200 if known else 401)

    health = Health([Part("Valkey", away), Part("index database", lambda: nobody(None))])
    app = create_app([*health_endpoints(health), endpoint("GET", "/api/keys", keys)], authenticate=nobody)
    async with serving(app) as url:
        port = int(url.rpartition(":")[2])
        findings = await found(tmp_path, url=url, port=port, documents_url=url, api_key="known")
        stranger = await found(tmp_path, url=url, api_key="unknown")
    assert findings["running Refdesk, Valkey"].level == "FAIL"
    assert findings["running Refdesk, index database"].level == "ok"
    assert {findings[name].level for name in ("your key", "port", "Document Service")} == {"ok"}
    assert stranger["your key"].level == "FAIL"


async def test_a_port_that_somebody_else_has_is_told(tmp_path: Path) -> None:
    """Before `refdesk up` finds out."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        findings = await found(tmp_path, port=listener.getsockname()[1])
    assert findings["port"].level == "FAIL"
    assert "--port" in findings["port"].what


async def test_a_data_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A file stands in its place."""
    (tmp_path / "file").touch()
    findings = await found(tmp_path / "file" / "data")
    assert findings["data directory"].level == "FAIL"
    assert "REFDESK_DATA_DIR" in findings["data directory"].mend


async def test_damaged_weights_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their digest, which is the one that the indexer demands."""
    assert machine.WEIGHTS_SHA256 == embedding_graph.WEIGHTS_SHA256
    monkeypatch.setattr(machine, "WEIGHTS_SHA256", "0" * 64)
    assert (await found(tmp_path))["embedding model"].level == "FAIL"


async def test_the_tokenizer_is_read(tmp_path: Path) -> None:
    """What is set has to be there; without it the tokens of a prompt are estimated."""
    missing = (await found(tmp_path, llm_tokenizer=str(tmp_path / "tokenizer.json")))["tokenizer"]
    assert (missing.level, "REFDESK_LLM_TOKENIZER" in missing.what) == ("FAIL", True)
    exact = (await found(tmp_path, llm_tokenizer=str(packaged_tokenizer())))["tokenizer"]
    assert (exact.level, "exactly" in exact.what) == ("ok", True)
    without = await found(tmp_path, llm_url=f"http://{GONE}", llm_model="any")
    assert (without["tokenizer"].level, "estimated" in without["tokenizer"].what) == ("ok", True)


async def test_a_check_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others are told all the same."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setattr(checks, "CHECK_TIMEOUT_S", 0.5)
        monkeypatch.setattr(checks, "CHECKS", {"Python": CHECKS["Python"], "NATS": CHECKS["NATS"]})
        findings = await found(tmp_path, nats_url=f"nats://127.0.0.1:{silent.getsockname()[1]}")
    assert levels(findings) == {"Python": "ok", "NATS": "FAIL"}
