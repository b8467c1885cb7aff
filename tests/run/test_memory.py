"""The estimate of the memory of a fit, the available memory, and the advice if it is too little."""

from __future__ import annotations

import math
import os
import platform
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import torch
from torch import Tensor, nn

from dipfast import _native
from dipfast.networks import Hourglass, HourglassConfig
from dipfast.run.memory import advice, available, blocks, check_memory, estimate_fit, explain
from dipfast.run.memory.blocks import kept_blocks

CPU = torch.device("cpu")
CUDA = torch.device("cuda")  # only its name is used
SMALL = HourglassConfig(down=(32, 64), up=(32, 64), skip=(4, 0))


def estimate(network: nn.Module, *sides: int, dtype=torch.float32, device=CPU) -> int | None:
    channels = getattr(network, "in_channels", 3)
    return estimate_fit(network, (1, channels, *sides), (1, 3, *sides), dtype, device)


def set_available(monkeypatch: pytest.MonkeyPatch, cpu: float, cuda: float = 0) -> None:
    """Set the available memory of the CPU and the GPU, in bytes."""
    sizes = {"cpu": int(cpu), "cuda": int(cuda)}
    monkeypatch.setattr(advice, "available", lambda device: sizes[device.type])


# --- what a fit takes --------------------------------------------------------------------

MEASURE = """
import torch
from dipfast.run.memory import estimate_fit
from dipfast.networks import Hourglass
from dipfast.settings.presets import PRESETS
from dipfast.prior.loop import DeepImagePrior
from dipfast.prior.stages import Stage

def status(name):
    for line in open("/proc/self/status"):
        if line.startswith(name):
            return 1024 * int(line.split()[1])

torch.set_num_threads(1)
config = PRESETS["denoise-balanced"].network
need = estimate_fit(Hourglass(32, 1, config), (1, 32, 256, 256), (1, 1, 256, 256), torch.float32)
before = status("VmRSS")
for state in DeepImagePrior(torch.rand(1, 1, 256, 256), [Stage("tv", 2, 0.1)], network=config):
    state.average
print(need, status("VmHWM") - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_estimate_is_what_a_fit_takes() -> None:
    # Dask sets it in the process that starts a cluster, as other tests do.
    environment = {k: v for k, v in os.environ.items() if k != "MALLOC_TRIM_THRESHOLD_"}
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env=environment,
    )
    need, measured = (int(word) for word in done.stdout.split())
    assert 0.8 * measured < need < 1.6 * measured


def test_grows_with_the_number_of_pixels() -> None:
    network = Hourglass(32, 3, SMALL)
    square = [estimate(network, side, side, device=CUDA) for side in (128, 256, 512)]
    assert (square[2] - square[1]) / (square[1] - square[0]) == pytest.approx(4, rel=0.02)
    assert estimate(network, 128, 512, device=CUDA) == pytest.approx(square[1], rel=0.01)


def test_counts_what_is_kept_for_the_gradients() -> None:
    def chain(length: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 3, 1), *(nn.Tanh() for _ in range(length)))

    difference = estimate(chain(30), 50, 60, device=CUDA) - estimate(chain(10), 50, 60, device=CUDA)
    assert difference == 20 * 3 * 50 * 60 * 4


def test_counts_weights_gradients_moments_and_the_copy_of_the_state() -> None:
    network = nn.Conv2d(1000, 1000, 1)
    shape = (1, 1000, 1, 1)
    need = estimate_fit(network, shape, shape, torch.float32, CUDA)
    empty = estimate_fit(nn.Conv2d(1000, 1, 1), shape, shape, torch.float32, CUDA)
    assert (need - empty) / (999 * 1000 * 4) == pytest.approx(7, rel=0.02)


def test_blocks_of_the_heap_count_for_more() -> None:
    network = Hourglass(32, 3, SMALL)
    network.is_fused = False  # the same layers for both
    assert estimate(network, 256, 256) > 1.3 * estimate(network, 256, 256, device=CUDA)
    large = estimate(network, 4096, 4096)
    assert large == pytest.approx(1.5 * estimate(network, 4096, 4096, device=CUDA), rel=0.02)


def test_float64_takes_more_than_twice_on_the_cpu_for_its_convolutions() -> None:
    network = Hourglass(32, 3, SMALL)
    single, double = (
        estimate(network, 2048, 2048, dtype=t) for t in (torch.float32, torch.float64)
    )
    assert 2.3 * single < double < 6 * single
    double = estimate(network, 2048, 2048, dtype=torch.float64, device=CUDA)
    single = estimate(network, 2048, 2048, device=CUDA)
    assert double == pytest.approx(2 * single, rel=0.01)


def test_another_thread_may_empty_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    class Forgetful(dict):
        def __contains__(self, form: object) -> bool:
            return True

        def __setitem__(self, form: object, value: object) -> None:
            pass

    network = Hourglass(8, 3, SMALL)
    expected = estimate(network, 32, 32)
    monkeypatch.setattr("dipfast.run.memory.estimate._estimates", Forgetful())
    assert estimate(network, 32, 32) == expected


class Stateful(nn.Module):
    """Draw random numbers, count calls, and keep running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Dropout(0.5))
        self.calls = 0

    def forward(self, z: Tensor) -> Tensor:
        self.calls += 1
        return self.body(z).sigmoid()


def test_leaves_the_network_and_the_random_numbers_as_they_are() -> None:
    network = Stateful()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    state = torch.get_rng_state()
    assert estimate(network, 16, 16) is not None
    assert torch.equal(torch.get_rng_state(), state)
    assert network.calls == 0
    assert all(parameter.grad is None for parameter in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
        assert value.device.type == "cpu"


def test_fused_layers_take_less() -> None:
    network = Hourglass(32, 3, SMALL)
    fused = estimate(network, 512, 512)
    network.is_fused = False
    assert fused < 0.7 * estimate(network, 512, 512)


@pytest.mark.parametrize("side", [10**6, 10**9, 10**12])
def test_counts_what_no_machine_has(side: int) -> None:
    network = Hourglass(32, 3, SMALL)
    ratio = estimate(network, side, side) / estimate(network, 8192, 8192)
    assert math.log(ratio) == pytest.approx(2 * math.log(side / 8192), abs=0.1)


# --- a network that needs data ---------------------------------------------------------


class Opaque(nn.Module):
    """Take a branch that depends on values, which tensors without data do not have."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z) if float(z.mean()) > 0 else z


def test_a_network_that_needs_data_is_not_refused() -> None:
    shape = (1, 3, 10**6, 10**6)
    assert estimate(Opaque(), 16, 16) is None
    check_memory(Opaque(), shape, shape, torch.float32, CPU)
    assert "into pieces" in explain(Opaque(), shape, shape, torch.float32, CPU)


# --- refusing ----------------------------------------------------------------------------


def refuse(network: nn.Module, *sides: int, dtype=torch.float32, device=CPU) -> str:
    with pytest.raises(MemoryError) as caught:
        check_memory(network, (1, 32, *sides), (1, 3, *sides), dtype, device)
    return str(caught.value)


def pieces_of(text: str) -> list[int]:
    """Return the suggested number of pieces, and their height and width."""
    return [int(n) for n in re.search(r"(\d+) pieces of up to (\d+)x(\d+) pixels", text).groups()]


def test_what_fits_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hourglass(32, 3, SMALL)
    set_available(monkeypatch, estimate(network, 64, 80))
    check_memory(network, (1, 32, 64, 80), (1, 3, 64, 80), torch.float32, CPU)
    set_available(monkeypatch, estimate(network, 64, 80) - 1)
    refuse(network, 64, 80)


def test_names_what_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hourglass(32, 3, SMALL)
    need, room = estimate(network, 700, 400, dtype=torch.float64), 2.1e9
    set_available(monkeypatch, room)
    text = refuse(network, 700, 400, dtype=torch.float64)
    begin = "restoring 3x700x400 pixels with this network takes about"
    assert text.startswith(f"{begin} {need / 1e9:.1f} GB of memory, and 2.1 GB are there.")

    pieces, *sides = pieces_of(text)
    assert pieces * sides[0] * sides[1] >= 700 * 400
    assert estimate(network, *sides, dtype=torch.float64) <= room

    assert "the measurement as float32" in text
    assert estimate(network, 700, 400) <= room

    config = eval(re.search(r"HourglassConfig\(.*\)", text)[0])
    assert isinstance(config, HourglassConfig)
    assert 8 <= min(config.down) <= max(config.down) < 64
    assert config.skip == (4, 0)  # they have fewer channels than the least already
    assert estimate(Hourglass(32, 3, config), 700, 400, dtype=torch.float64) <= room


def test_names_nothing_that_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hourglass(32, 3, SMALL)
    network.is_fused = False
    room = estimate(network, 500, 500)
    set_available(monkeypatch, room)
    text = refuse(
        network, 1000, 1000, dtype=torch.float64
    )  # float32 takes four times what is there
    assert "16 pieces of up to 250x250 pixels" in text
    assert "float32" not in text
    assert "narrower" not in text
    set_available(monkeypatch, 1e6)
    assert refuse(network, 1000, 1000).endswith("What would fit: nothing that was tried.")
    set_available(monkeypatch, 0)
    assert refuse(network, 1000, 1000).endswith("What would fit: nothing that was tried.")


def test_suggestions_leave_a_tenth_of_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hourglass(32, 3, SMALL)
    set_available(monkeypatch, estimate(network, 512, 256))
    assert "4 pieces of up to 256x256 pixels" in refuse(network, 512, 512)


@pytest.mark.parametrize(("ram", "named"), [(64e9, True), (1e9, False)])
def test_a_gpu_that_is_too_small(monkeypatch: pytest.MonkeyPatch, ram: float, named: bool) -> None:
    set_available(monkeypatch, ram, cuda=1e9)
    text = refuse(Hourglass(32, 3, SMALL), 1024, 1024, device=CUDA)
    assert "of GPU memory, and 1.0 GB are there" in text
    assert ('device="cpu"' in text) == named


def test_advice_after_running_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    network = Hourglass(32, 3, SMALL)
    set_available(monkeypatch, 0, cuda=64e9)
    need = estimate(network, 512, 512, device=CUDA)
    text = explain(network, (1, 32, 512, 512), (1, 3, 512, 512), torch.float32, CUDA)
    assert "which ran out" in text
    assert estimate(network, *pieces_of(text)[1:], device=CUDA) <= need / 2


# --- the available memory -----------------------------------------------------------------------

V1 = "4:cpu,memory:/job/step\n1:name=systemd:/init\n0::/\n"
V2 = "0::/job/step\n"


def group(folder: Path, *, version: int, limit: object, usage: int, files: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    names = {
        1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        2: ("memory.max", "memory.current", "inactive_file"),
    }[version]
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{usage}\n")
    (folder / "memory.stat").write_text(f"anon 5\n{names[2]} {files}\n")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make the folders of a system with 1000 bytes of available memory."""
    (tmp_path / "proc/self").mkdir(parents=True)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    return tmp_path


@pytest.mark.parametrize("version", [1, 2])
def test_a_control_group_leaves_less(tree: Path, version: int) -> None:
    mount = tree / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    (tree / "proc/self/cgroup").write_text(V1 if version == 1 else V2)
    none = 9223372036854771712 if version == 1 else "max"
    for folder in ("job", "job/step"):
        group(mount / folder, version=version, limit=none, usage=700)
    assert available(CPU, tree) == 1000
    group(mount / "job/step", version=version, limit=900, usage=700)
    assert available(CPU, tree) == 200
    group(mount / "job/step", version=version, limit=900, usage=700, files=50)
    assert available(CPU, tree) == 250
    group(mount / "job", version=version, limit=800, usage=700)
    assert available(CPU, tree) == 100
    group(mount / "job", version=version, limit=800, usage=900)
    assert available(CPU, tree) == 0


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_that_sees_the_path_of_its_host(tree: Path, version: int) -> None:
    mount = tree / "sys/fs/cgroup" / ("memory" if version == 1 else "")
    (tree / "proc/self/cgroup").write_text(V1 if version == 1 else V2)
    group(mount, version=version, limit=500, usage=100)
    assert available(CPU, tree) == 400


def test_without_control_groups(tree: Path) -> None:
    assert available(CPU, tree) == 1000
    (tree / "proc/self/cgroup").write_text("0::/\n")
    assert available(CPU, tree) == 1000


def test_this_system() -> None:
    assert 0 < available(CPU) < psutil.virtual_memory().total


def test_a_gpu_has_what_is_free_and_what_torch_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (500, 2000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 300)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
    assert available(CUDA) == 700


def test_other_devices_are_not_known() -> None:
    assert available(torch.device("meta")) is None
    shape = (1, 32, 10**6, 10**6)
    check_memory(Hourglass(), shape, shape, torch.float32, torch.device("meta"))


# --- freed blocks ----------------------------------------------------------------------


def test_blocks_are_kept_until_the_last_fit_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(_native, "keep_blocks", calls.append)
    with kept_blocks(torch.device("cpu")):
        with pytest.raises(KeyError), kept_blocks(torch.device("cpu")):
            raise KeyError
        assert calls == [True]
    assert calls == [True, False]
    with kept_blocks(torch.device("cuda")):
        pass
    assert calls == [True, False]


def test_a_forked_process_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    monkeypatch.setattr(_native, "keep_blocks", calls.append)
    with kept_blocks(CPU):
        blocks._forget()
        with kept_blocks(CPU):
            pass
        assert calls == [True, True, False]
        blocks._fits = 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="for glibc")
def test_the_c_library_keeps_blocks() -> None:
    # In a process whose memory has no gaps yet.
    script = """if True:
        import resource, torch
        from dipfast.run.memory.blocks import kept_blocks

        def faults():
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            for _ in range(20):
                torch.ones(12 << 20)  # 48 MiB
            return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

        print(faults())
        with kept_blocks(torch.device("cpu")):
            torch.ones(12 << 20)
            print(faults())
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    before, kept = map(int, done.stdout.split())
    assert kept < 0.5 * before
