"""How the settings say Qdrant is reached, and how it is to keep collections."""

from refdesk.app.settings import Settings
from refdesk.index.qdrant.server import QdrantSettings


def qdrant_settings(settings: Settings, *, url: str) -> QdrantSettings:
    return QdrantSettings(
        url=url,
        api_key=settings.qdrant_api_key,
        grpc_port=settings.qdrant_grpc_port,
        timeout_s=settings.qdrant_timeout_s,
        prefix=settings.qdrant_prefix,
        shards=settings.qdrant_shards,
        replicas=settings.qdrant_replicas,
        on_disk=settings.qdrant_on_disk,
        quantization=settings.qdrant_quantization,
    )
