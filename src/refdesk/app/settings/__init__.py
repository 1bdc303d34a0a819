"""Settings: what there is to set (`fields`), and where values come from (`loading`)."""

from refdesk.app.settings.fields import BASIC, PREFIX, Settings
from refdesk.app.settings.loading import Loaded, load, to_environment

__all__ = ["BASIC", "PREFIX", "Loaded", "Settings", "load", "to_environment"]
