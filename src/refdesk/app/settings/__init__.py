"""Settings: what there is to set (`fields`), and where values come from (`loading`)."""

from refdesk.app.settings.fields import BASIC, PREFIX, Settings
from refdesk.app.settings.loading import Loaded, load, origins_of, to_environment, with_origins

__all__ = ["BASIC", "PREFIX", "Loaded", "Settings", "load", "origins_of", "to_environment", "with_origins"]
