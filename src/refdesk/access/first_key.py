"""The first key where no one can call from loopback, such as in a container: a mounted file that becomes a key at the start.

Whoever can put that file there decides who is administrator; so what it says stays true: a key that was revoked while its
file is still there comes back with the next start. One that was rotated does not: another has its place. Any number of
services may read the same file at once.
"""

import logging
from pathlib import Path

from refdesk.access.keys import ApiKeys, key_id_of
from refdesk.contracts.access import ADMINISTRATORS
from refdesk.contracts.errors import ConfigurationError

logger = logging.getLogger(__name__)

KEY_BYTES_MAX = 4096
"""Far more than a key and the newline behind it."""


async def adopt_key_file(keys: ApiKeys, file: Path) -> None:
    """Make the file's key an administrator's, unless it is known. Raises ConfigurationError when it holds none."""
    match await keys.adopt(read_key_file(file), groups=(ADMINISTRATORS,)):
        case "new":
            logger.info("The key in %s is an administrator's from now on.", file)
        case "rotated":
            logger.warning("The key in %s was rotated and opens nothing any more; remove the file.", file)


def read_key_file(file: Path) -> str:
    """The key in the file, without the blanks around it. Raises ConfigurationError; what the file says is not repeated."""
    try:
        with file.open("rb") as content:
            key = content.read(KEY_BYTES_MAX).decode(errors="replace").strip()
    except OSError as error:
        raise ConfigurationError(
            f"REFDESK_BOOTSTRAP_KEY_FILE={file} cannot be read: {error.strerror}. "
            "Mount a file there that this user may read, or unset it."
        ) from error
    if not key_id_of(key):
        raise ConfigurationError(
            f"REFDESK_BOOTSTRAP_KEY_FILE={file} holds no key of Refdesk's, or a mistyped one. "
            "`refdesk keys generate` makes one."
        )
    return key
