"""How the settings say Qdrant is reached, and how it is to keep collections."""

from refdesk.index.qdrant.server import QdrantSettings
from refdesk.settings.tree import Settings


def qdrant_settings(settings: Settings, *, url: str) -> QdrantSettings:
    return QdrantSettings(
        url=url,
        api_key=settings.qdrant.api_key,
        grpc_port=settings.qdrant.grpc_port,
        timeout_s=settings.qdrant.timeout_s,
        prefix=settings.qdrant.prefix,
        shards=settings.qdrant.shards,
        replicas=settings.qdrant.replicas,
        on_disk=settings.qdrant.on_disk,
        quantization=settings.qdrant.quantization,
    )
