"""What goes wrong with Valkey: it is away, or it answers and refuses. Each refusal has a type and a sentence for people."""

from redis.exceptions import ConnectionError as ConnectionBroken
from redis.exceptions import NoScriptError, ResponseError
from redis.exceptions import RedisError as ValkeyError
from redis.exceptions import TimeoutError as NoReply

__all__ = [
    "KINDS",
    "Away",
    "Busy",
    "ClusterDown",
    "ConnectionBroken",
    "Full",
    "IsCluster",
    "Loading",
    "NoReply",
    "NoScriptError",
    "NotAllowed",
    "ReadOnly",
    "Refusal",
    "ResponseError",
    "TooFewReplicas",
    "Unreachable",
    "Unsaved",
    "ValkeyError",
    "WithoutPrimary",
    "WrongPassword",
    "refusal",
]


class Unreachable(ConnectionBroken):
    """No connection to Valkey could be opened."""


class Away(ConnectionBroken):
    """Valkey was away a moment ago, so this command was not sent."""


class Refusal(ResponseError):
    """Valkey answers, but refuses what it is asked for a reason that lies with the server or with how it is reached."""


class ReadOnly(Refusal):
    """It is a replica and takes no writes. Point REFDESK_VALKEY_URL at the primary, or at its Sentinels (redis+sentinel://)."""


class TooFewReplicas(Refusal):
    """It has fewer replicas than it wants for a write. Start them, or lower min-replicas-to-write."""


class Full(Refusal):
    """Its memory is full and nothing in it may be evicted. Raise maxmemory, or set maxmemory-policy to volatile-lru."""


class Unsaved(Refusal):
    """It could not save to disk and takes no writes. Give it room; its own log says more."""


class Loading(Refusal):
    """It has just started and is still loading. It will be ready by itself."""


class WithoutPrimary(Refusal):
    """It is a replica that has lost its primary. Start the primary, or let Sentinel or the cluster choose another."""


class Busy(Refusal):
    """A script of somebody else's keeps it busy. SCRIPT KILL ends that."""


class WrongPassword(Refusal):
    """It wants another user or password. Mend REFDESK_VALKEY_URL: redis://user:password@host."""


class NotAllowed(Refusal):
    """Its user may not do this. Allow the user of REFDESK_VALKEY_URL `~refdesk:* &refdesk:* +@all -@admin +info +config|get`."""


class IsCluster(Refusal):
    """It is a node of a cluster. Write REFDESK_VALKEY_URL as redis+cluster://."""


class ClusterDown(Refusal):
    """Its cluster does not serve all keys. It mends itself once a replica has taken over, or the node is back."""


KINDS: dict[str, type[Refusal]] = {
    "READONLY": ReadOnly,
    "NOREPLICAS": TooFewReplicas,
    "OOM": Full,
    "MISCONF": Unsaved,
    "LOADING": Loading,
    "MASTERDOWN": WithoutPrimary,
    "BUSY": Busy,
    "NOAUTH": WrongPassword,
    "WRONGPASS": WrongPassword,
    "NOPERM": NotAllowed,
    "MOVED": IsCluster,
    "ASK": IsCluster,
    "CROSSSLOT": IsCluster,
    "TRYAGAIN": ClusterDown,
    "CLUSTERDOWN": ClusterDown,
}
"""By the first word of the server's message."""


def refusal(message: str) -> ValkeyError:
    """The error that this reply stands for. What a script was refused is told like what a command was."""
    code = message.partition(" ")[0].lstrip("-")
    if code == "NOSCRIPT":
        return NoScriptError(message)
    kind = KINDS.get(code)
    return ResponseError(message) if kind is None else kind(f"{kind.__doc__} ({message})")
