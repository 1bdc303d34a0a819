"""One collection of Qdrant: the points of one generation. Everything here goes by ids, and waits until it is done.

Points are written once and deleted once; only what they are found by is ever set anew. Deleting by filter is left out on purpose:
Qdrant has replayed such operations out of order (qdrant#9575).
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np

from refdesk.contracts.access import Scope
from refdesk.contracts.answers import Filters
from refdesk.contracts.errors import ConfigurationError, Unavailable
from refdesk.index.ledger.generations import Generation
from refdesk.index.port import Vectors
from refdesk.index.qdrant.points import Carried, Point, Sparse, point_id
from refdesk.index.qdrant.server import OWNER, CollectionMissing, Qdrant, collection_name, translated

DENSE, WORDS = "meaning", "words"
"""The names of a point's two vectors."""
BATCH_POINTS = 256
IDS_MAX = 1_000
"""Ids of one request."""
EF_CONSTRUCT = 200
"""Neighbours that are looked at for a point of a new collection."""
HNSW_EF = 256
"""How wide the graph is searched: near pgvector's 300 (docs/adr/0003). benchmarks/engines.py tells what it finds."""
OVERSAMPLING = 2.0
"""So many times as many are compared with the whole vectors as are asked for, where vectors are compressed."""

T = TypeVar("T")

Found = list[tuple[str, float]]
"""Ids of points with their scores, the best first."""


class Sought(NamedTuple):
    """A question as Qdrant takes it. ``exact``: few points may be read, and all of them are compared."""

    vector: Vectors
    words: Sparse
    scope: Scope
    filters: Filters
    exact: bool


class Collection:
    """The collection of one generation; it need not exist before `ensure`. Every method raises Unavailable."""

    def __init__(self, qdrant: Qdrant, generation: Generation) -> None:
        self.name = collection_name(qdrant.settings, generation.id)
        self._qdrant = qdrant
        self._client = qdrant.client
        self._models = qdrant.models
        self._generation = generation

    async def ensure(self) -> bool:
        """Make it, if it is not there; whether it was made. Raises ConfigurationError when somebody else's has its name.

        Many processes may do so at once: one that comes second is turned away, and finds what the first has made.
        """
        made = not await self._exists()
        if made:
            try:
                await self._create()
            except Unavailable:
                if not await self._exists():
                    raise
        with translated():
            found = await self._client.get_collection(self.name)
        if (found.config.metadata or {}).get(OWNER) != self._generation.token:
            raise ConfigurationError(
                f"Qdrant has a collection {self.name} that is not of this desk. Set REFDESK_QDRANT_PREFIX to a name that no "
                "other desk uses, or delete that collection."
            )
        await self._index_payload(set(found.payload_schema))
        return made

    async def drop(self) -> None:
        """Nothing when it is not there, or is somebody else's."""
        if not await self._exists():
            return
        with translated():
            config = (await self._client.get_collection(self.name)).config
            if (config.metadata or {}).get(OWNER) == self._generation.token:
                await self._client.delete_collection(self.name)

    async def write(self, points: Iterable[Point]) -> None:
        for part in _parts(points, BATCH_POINTS):
            with translated():
                await self._client.upsert(self.name, [self._struct(point) for point in part], wait=True)

    async def share(self, revision: int, *, points: int, found_by: dict[str, list[Any]]) -> None:
        """Set what the points of a revision are found by."""
        for ids in _parts(_ids(revision, points), IDS_MAX):
            with translated():
                await self._client.set_payload(
                    self.name,
                    found_by,
                    points=self._models.PointIdsList(points=ids),
                    wait=True,
                )

    async def delete(self, revision: int) -> None:
        """All points of a revision, however many there are."""
        while ids := [record.id for record in await self._scroll(self._is("revision", revision), fields=False)]:
            with translated():
                await self._client.delete(self.name, self._models.PointIdsList(points=ids), wait=True)

    async def nearest(self, sought: Sought, *, count: int) -> tuple[Found, Found]:
        """The best of each arm within the scope: by meaning, by words."""
        allowed = self._allowed(sought.scope, sought.filters)
        requests = [self._near(sought.vector, allowed, exact=sought.exact, count=count)]
        if sought.words.indices:
            query = self._models.SparseVector(indices=sought.words.indices, values=sought.words.values)
            requests.append(self._request(query, using=WORDS, filter=allowed, limit=count))
        near, *worded = await self._query(requests)
        return near, worded[0] if worded else []

    async def similarities(self, vector: Vectors, ids: Sequence[str]) -> dict[str, float]:
        """How near these points are."""
        if not ids:
            return {}
        these = self._models.Filter(must=[self._models.HasIdCondition(has_id=ids)])
        [found] = await self._query([self._near(vector, these, exact=True, count=len(ids))])
        return dict(found)

    async def carried(self, ids: Sequence[str]) -> dict[str, Carried]:
        """What these points carry, with their words, by id; points that are not there are absent."""
        found: dict[str, Carried] = {}
        for part in _parts(ids, IDS_MAX):
            with translated():
                records = await self._client.retrieve(self.name, part, with_payload=True, with_vectors=[WORDS])
            for record in records:
                vectors: Any = record.vector or {}
                words = vectors.get(WORDS)
                sparse = Sparse(words.indices, words.values) if words else Sparse([], [])
                found[str(record.id)] = Carried(record.payload or {}, sparse)
        return found

    async def payloads(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """What these points carry, by id; points that are not there are absent."""
        found: dict[str, dict[str, Any]] = {}
        for part in _parts(ids, IDS_MAX):
            with translated():
                records = await self._client.retrieve(self.name, part, with_payload=True, with_vectors=False)
            found |= {str(record.id): record.payload or {} for record in records}
        return found

    async def vectors(self, revision: int, *, points: int) -> AsyncIterator[tuple[bytes, Vectors]]:
        """Content hashes and vectors, each (dimensions,) float32, of a revision's points."""
        for part in _parts(_ids(revision, points), IDS_MAX):
            with translated():
                records = await self._client.retrieve(self.name, part, with_payload=["hash"], with_vectors=[DENSE])
            for record in records:
                vectors: Any = record.vector
                yield bytes.fromhex((record.payload or {})["hash"]), np.asarray(vectors[DENSE], dtype=np.float32)

    async def counts(self, document_ids: Sequence[str]) -> dict[int, int]:
        """How many points there are of each revision of these documents."""
        if not document_ids:
            return {}
        key = self._models.FieldCondition(key="document_id", match=self._models.MatchAny(any=list(document_ids)))
        with translated():
            hits = await self._client.facet(
                self.name,
                "revision",
                facet_filter=self._models.Filter(must=[key]),
                limit=100 * len(document_ids),
                exact=True,
            )
        return {int(hit.value): hit.count for hit in hits.hits}

    async def document_of(self, revision: int) -> str | None:
        """Whose points they are; None when there are none any more."""
        for record in await self._scroll(self._is("revision", revision), fields=["document_id"], count=1):
            return str((record.payload or {})["document_id"])
        return None

    async def _exists(self) -> bool:
        with translated():
            return bool(await self._client.collection_exists(self.name))

    async def _create(self) -> None:
        models, settings = self._models, self._qdrant.settings
        with translated():
            await self._client.create_collection(
                self.name,
                vectors_config={
                    DENSE: models.VectorParams(
                        size=self._generation.dimensions, distance=models.Distance.DOT, on_disk=settings.on_disk
                    )
                },
                sparse_vectors_config={
                    WORDS: models.SparseVectorParams(index=models.SparseIndexParams(on_disk=settings.on_disk))
                },
                hnsw_config=models.HnswConfigDiff(ef_construct=EF_CONSTRUCT),
                quantization_config=self._quantization(),
                on_disk_payload=True,
                replication_factor=settings.replicas,
                shard_number=settings.shards,
                metadata={OWNER: self._generation.token, "generation": self._generation.id},
            )

    async def _index_payload(self, there: set[str]) -> None:
        """What is looked up by, except what is there already: whoever made the collection may have died since."""
        models = self._models
        whole_number = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=True, range=False)
        day = models.IntegerIndexParams(type=models.IntegerIndexType.INTEGER, lookup=False, range=True)
        for field, schema in (
            ("readers", models.PayloadSchemaType.KEYWORD),
            ("tags", models.PayloadSchemaType.KEYWORD),
            ("sources", models.PayloadSchemaType.KEYWORD),
            ("changed_on", day),
            ("document_id", models.PayloadSchemaType.KEYWORD),
            ("revision", whole_number),
        ):
            if field not in there:
                with translated():
                    await self._client.create_payload_index(self.name, field, schema, wait=True)

    def _quantization(self) -> Any:
        models, in_memory = self._models, True
        match self._qdrant.settings.quantization:
            case "scalar":
                kind = models.ScalarType.INT8
                return models.ScalarQuantization(
                    scalar=models.ScalarQuantizationConfig(type=kind, always_ram=in_memory)
                )
            case "binary":
                return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=in_memory))
            case _:
                return None

    def _struct(self, point: Point) -> Any:
        vector: dict[str, Any] = {DENSE: point.vector.tolist()}
        if point.sparse.indices:
            vector[WORDS] = self._models.SparseVector(indices=point.sparse.indices, values=point.sparse.values)
        return self._models.PointStruct(id=point.id, vector=vector, payload=point.payload)

    async def _query(self, requests: Sequence[Any]) -> list[Found]:
        with translated():
            responses = await self._client.query_batch_points(self.name, requests)
        return [[(str(point.id), float(point.score)) for point in response.points] for response in responses]

    def _near(self, vector: Vectors, allowed: Any, *, exact: bool, count: int) -> Any:
        params = self._searched(exact=exact, count=count)
        return self._request(vector.tolist(), using=DENSE, filter=allowed, params=params, limit=count)

    def _request(self, query: Any, **how: Any) -> Any:
        return self._models.QueryRequest(query=query, with_payload=False, with_vector=False, **how)

    def _searched(self, *, exact: bool, count: int) -> Any:
        """How the graph is searched. What compressed vectors find is compared again, with the whole ones."""
        models = self._models
        again = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
        compressed = self._qdrant.settings.quantization is not None
        return models.SearchParams(exact=exact, hnsw_ef=max(HNSW_EF, count), quantization=again if compressed else None)

    def _allowed(self, scope: Scope, filters: Filters) -> Any:
        """Scope and filters as a condition on points: all of its parts must be met."""
        models = self._models
        must = []
        if not scope.everything:
            must.append(models.FieldCondition(key="readers", match=models.MatchAny(any=list(scope.readers))))
        if filters.document_ids:
            must.append(models.FieldCondition(key="document_id", match=models.MatchAny(any=list(filters.document_ids))))
        must += [models.FieldCondition(key="tags", match=models.MatchValue(value=tag)) for tag in filters.tags]
        if filters.sources:
            must.append(models.FieldCondition(key="sources", match=models.MatchAny(any=list(filters.sources))))
        if filters.since or filters.until:
            first, last = (day and day.toordinal() for day in (filters.since, filters.until))
            must.append(models.FieldCondition(key="changed_on", range=models.Range(gte=first, lte=last)))
        return models.Filter(must=must)

    def _is(self, field: str, value: int | str) -> Any:
        condition = self._models.FieldCondition(key=field, match=self._models.MatchValue(value=value))
        return self._models.Filter(must=[condition])

    async def _scroll(self, condition: Any, *, fields: Any, count: int = IDS_MAX) -> list[Any]:
        """Nothing when the collection is gone."""
        try:
            with translated():
                records, _ = await self._client.scroll(
                    self.name, scroll_filter=condition, limit=count, with_payload=fields, with_vectors=False
                )
        except CollectionMissing:
            return []
        return list(records)


def _ids(revision: int, points: int) -> Iterable[str]:
    return (point_id(revision, place) for place in range(points))


def _parts(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """The items in their order, so many at a time."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part
