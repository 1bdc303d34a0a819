"""Standing back: work that nobody waits for leaves busy processors to work that somebody does.

Niceness shares a busy processor out; it takes nothing from work that has one for itself. Parsers stand back: a hostile file
may keep each of them busy for half a minute. Embedding does not: it has a set number of threads, one by default, and
standing back for the database and the broker would only lengthen what it feeds them.
"""

import os
from contextlib import suppress


def stand_back(niceness: int, *, process_id: int = 0) -> None:
    """Have a process, 0 for this one, stand back by so much more (Unix niceness), with all it starts from now on.

    At most as far as the system goes, 19. One that has just ended does not have to.
    """
    with suppress(ProcessLookupError):
        now = os.getpriority(os.PRIO_PROCESS, process_id)
        os.setpriority(os.PRIO_PROCESS, process_id, now + niceness)
