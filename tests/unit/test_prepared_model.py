"""The packaged model's file: made once, whole, in little memory, by whoever comes first."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import psutil
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

from refdesk.contracts.errors import ConfigurationError
from refdesk.outside.embedding import prepared as prepared_model
from refdesk.outside.embedding.graph import UINT8_MAX, to_int8
from refdesk.outside.embedding.packaged import open_packaged_embedder
from refdesk.outside.embedding.prepared import FP32, GRAPH_MODULE, INT8, UNFINISHED, graph_file, locate_model, prepare

MEMORY_BYTES_MAX = 250 << 20
WEIGHTS = str(locate_model() / "model.safetensors")


async def test_it_is_made_once_and_said_once(tmp_path: Path) -> None:
    """The second call finds it, and says nothing."""
    said: list[str] = []
    first = await prepare([tmp_path], say=said.append)
    assert (await prepare([tmp_path], say=said.append), len(said)) == (first, 1)
    assert "Preparing the embedding model" in said[0]


async def test_many_processes_may_prepare_it_at_once(tmp_path: Path) -> None:
    """One works, the others wait for it; none sees half a file, and nothing unfinished is left."""
    files = await asyncio.gather(*(prepare([tmp_path]) for _ in range(4)))
    assert set(files) == {graph_file(tmp_path)}
    assert {file.name for file in tmp_path.iterdir()} == {".lock", files[0].name}
    async with open_packaged_embedder(tmp_path) as embedder:
        assert (await embedder.embed(["one"])).shape == (1, 384)


async def test_what_a_killed_process_left_is_never_used(tmp_path: Path) -> None:
    """Killed in the middle of writing: the name is not taken, and the next one clears up."""
    command = (sys.executable, "-m", GRAPH_MODULE, WEIGHTS, str(graph_file(tmp_path)), "fp32", "0")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    assert process.stdout is not None
    async with asyncio.timeout(60):
        for _ in range(20):  # signs of life: it writes its constants
            await process.stdout.readline()
    process.kill()
    assert await process.wait() == -signal.SIGKILL
    assert list(tmp_path.glob(f"{UNFINISHED}*")) and not graph_file(tmp_path).exists()
    await prepare([tmp_path])
    assert not list(tmp_path.glob(f"{UNFINISHED}*"))


def test_products_fit_every_processor() -> None:
    """Those without VNNI add two in 16 bits (docs/adr/0065): else they have other vectors."""
    weights = np.random.default_rng(7).normal(size=(384, 64)).astype(np.float32)
    largest = np.abs(to_int8(weights).astype(int)).max()
    assert 2 * UINT8_MAX * largest <= np.iinfo(np.int16).max


async def test_it_takes_little_memory(tmp_path: Path) -> None:
    """250 MiB at the very most, for each precision. (``ru_maxrss`` would begin with what this process holds.)"""
    for precision in ("int8", "fp32"):
        target = tmp_path / f"{precision}.onnx"
        code = (
            "import re, runpy, sys\n"
            f"sys.argv = ['', {WEIGHTS!r}, {str(target)!r}, {precision!r}, '0']\n"
            f"runpy.run_module({GRAPH_MODULE!r}, run_name='__main__')\n"
            "print(int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1]) * 1024)\n"
        )
        out = await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code], check=True, capture_output=True)
        assert int(out.stdout.splitlines()[-1]) <= MEMORY_BYTES_MAX
        assert target.is_file()


async def test_a_shared_folder_that_cannot_be_written_serves_what_is_in_it(tmp_path: Path) -> None:
    """Nothing is said, made or locked there; without the file, the next folder gets it."""
    shared, own = tmp_path / "shared", tmp_path / "own"
    made = await prepare([own])
    shared.mkdir()
    shutil.copy(made, shared)
    said: list[str] = []
    with read_only(shared):
        assert await prepare([shared, own], say=said.append) == graph_file(shared)
        assert [file.name for file in shared.iterdir()] == [made.name]
        assert await prepare([shared, own], name=FP32, say=said.append) == graph_file(own, name=FP32)
    assert len(said) == 1


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """For as long as the block lasts. Root writes anywhere but below a file system that is mounted read-only."""
    if os.geteuid() != 0:
        folder.chmod(0o500)
        yield
        folder.chmod(0o700)
        return
    bind = ("mount", "--bind", str(folder), str(folder))
    remount = ("mount", "-o", "remount,bind,ro", str(folder))
    if any(subprocess.run(command, check=False, capture_output=True).returncode for command in (bind, remount)):
        pytest.skip("root may not mount here, and writes everywhere else")
    try:
        yield
    finally:
        subprocess.run(("umount", "-l", str(folder)), check=True)


async def test_no_folder_to_write_is_one_sentence(tmp_path: Path) -> None:
    """It names the folder, the reason, and the command that would have helped."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="refdesk model prepare") as refusal:
        await prepare([tmp_path / "file" / "models"])
    assert str(tmp_path / "file") in str(refusal.value) and "Not a directory" in str(refusal.value)


async def test_a_file_that_does_not_load_is_made_anew(tmp_path: Path) -> None:
    """In its place; a cached file is no reason not to start."""
    tmp_path.joinpath(graph_file(tmp_path).name).write_bytes(b"not a model")
    async with open_packaged_embedder(tmp_path) as embedder:
        assert (await embedder.embed(["one"])).shape == (1, 384)
    assert graph_file(tmp_path).stat().st_size > 1 << 20


async def test_changed_weights_are_refused(tmp_path: Path) -> None:
    """The digest of the published weights is checked before they are converted."""
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"\0" * 64)
    refusal = await prepared_model._make(weights, tmp_path / "model.onnx", precision="int8", anew=False)
    assert refusal is not None and "sha256" in refusal


async def test_a_child_that_falls_silent_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long it takes otherwise: only silence counts. Here another process holds the lock and never lets go."""
    monkeypatch.setattr(prepared_model, "SILENCE_S_MAX", 0.05)  # Python itself takes longer to begin
    before = {child.pid for child in psutil.Process().children()}
    refusal = await prepared_model._make(Path(WEIGHTS), graph_file(tmp_path), precision="int8", anew=False)
    assert refusal is not None and "nothing was heard" in refusal
    assert {child.pid for child in psutil.Process().children()} <= before


def constants(file: Path) -> dict[str, NDArray[Any]]:
    return {one.name: numpy_helper.to_array(one) for one in onnx.load(file).graph.initializer}


@pytest.mark.long
async def test_it_holds_what_onnxruntimes_quantiser_makes(tmp_path: Path) -> None:
    """Constant by constant, to the bit."""
    from onnxruntime.quantization import QuantType, quantize_dynamic  # type: ignore[attr-defined]  # declares no exports

    full, ours = await prepare([tmp_path], name=FP32), await prepare([tmp_path], name=INT8)
    theirs = tmp_path / "theirs.onnx"
    await asyncio.to_thread(
        quantize_dynamic,
        str(full),
        str(theirs),
        op_types_to_quantize=["Attention", "MatMul", "Gather"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        extra_options={"MatMulConstBOnly": True, "DefaultTensorType": onnx.TensorProto.FLOAT},
    )
    made, expected = constants(ours), constants(theirs)
    assert made.keys() == expected.keys()
    assert [name for name in made if made[name].dtype != expected[name].dtype] == []
    assert [name for name in made if not np.array_equal(made[name], expected[name])] == []
