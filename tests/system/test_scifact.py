"""Retrieval quality on SciFact (Wadden et al., EMNLP 2020), asked for through the service's own door."""

import csv
import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tests.support.running import running

DATA = Path(__file__).parents[3] / "shared" / "data" / "retrieval" / "scifact"
NDCG_MIN = 0.70
DEPTH = 10
HITS = 30
"""Passages asked for, so that ten documents are among them."""

pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(not DATA.is_dir(), reason=f"SCIFACT IS NOT TESTED: {DATA} is not there."),
]


def rows(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (DATA / name).read_text("utf-8").splitlines()]


def judgements() -> dict[str, dict[str, int]]:
    """Of the test queries: the grade of each document that is relevant."""
    graded: dict[str, dict[str, int]] = defaultdict(dict)
    with (DATA / "qrels" / "test.tsv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            graded[row["query-id"]][row["corpus-id"]] = int(row["score"])
    return graded


def ndcg(ranked: Sequence[str], grades: Mapping[str, int]) -> float:
    """Normalised discounted cumulative gain of the first ten."""
    gains = [grades.get(document, 0) / math.log2(place + 2) for place, document in enumerate(ranked[:DEPTH])]
    best = sorted(grades.values(), reverse=True)[:DEPTH]
    return sum(gains) / sum(grade / math.log2(place + 2) for place, grade in enumerate(best))


async def test_scifact_is_searched_as_well_as_promised(tmp_path: Path) -> None:
    """nDCG@10 of at least 0.70 over the 300 test queries."""
    folder = tmp_path / "abstracts"
    folder.mkdir()
    for row in rows("corpus.jsonl"):
        (folder / f"{row['_id']}.txt").write_text(f"{row['title']}\n\n{row['text']}", "utf-8")
    async with running(tmp_path, "--no-samples") as refdesk:
        added = await refdesk.command("add", str(folder), "--json", within_s=1200)
        assert added.code == 0, added.last["failed"][:5]
        texts = {row["_id"]: row["text"] for row in rows("queries.jsonl")}
        scores = []
        for query, grades in judgements().items():
            hits = await refdesk.search(texts[query], limit=HITS)
            ranked = list(dict.fromkeys(hit["title"] for hit in hits))
            scores.append(ndcg(ranked, grades))
    assert len(scores) == 300
    mean = sum(scores) / len(scores)
    sys.stdout.write(f"SciFact through /api/search: nDCG@10 {mean:.4f}\n")
    assert mean >= NDCG_MIN
