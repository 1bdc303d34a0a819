"""onnxruntime, told to keep to itself.

Unless this variable is set when it is imported, it gives the machine an id, keeps a database of what it did under the user's
home, and sends that to its makers (1.32 does; its own `disable_telemetry_events` comes too late). Child processes inherit the
variable. Whatever runs a model takes onnxruntime from here.
"""

import os

os.putenv("ORT_DISABLE_TELEMETRY", "1")

from onnxruntime import InferenceSession, SessionOptions  # type: ignore[attr-defined]  # declares no exports

__all__ = ["InferenceSession", "SessionOptions"]
