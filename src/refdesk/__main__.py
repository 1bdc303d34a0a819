"""``python -m refdesk``."""

from refdesk.app.cli import main

main()
