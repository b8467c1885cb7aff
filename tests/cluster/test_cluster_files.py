"""Collections of files: each restored once, whatever happens, to the bits of one process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.cluster import on_workers

import dipfast
from dipfast import JpegCoding
from dipfast.apps.cli import main
from dipfast.cluster import FileOutcome, restore_files
from dipfast.cluster.record import FolderRecord
from dipfast.cluster.sizes import Need, estimate_memory, needs_of, shape_of
from dipfast.errors import InputError
from dipfast.images.files import read_image, write_image
from dipfast.images.layout import Layout
from dipfast.operators import Blur, Compose, Identity, Mask, Wrapped, gaussian_kernel
from dipfast.prior.stages import Stage
from dipfast.run.memory import TILES, at_most, available
from dipfast.run.prepare import Task, prepare
from dipfast.settings.settings import DenoiseSettings

Make = Callable[[int], list[Path]]


def restore(paths: Any, out: Path, client: Any = "threads", **options: Any) -> list[FileOutcome]:
    return restore_files("denoise", paths, out, scheduler=client, quality="fast", **options)


def lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "dipfast.jsonl").read_text().splitlines()]


def statuses(outcomes: list[FileOutcome]) -> list[str]:
    return [outcome.status for outcome in outcomes]


def check_bits(paths: list[Path], out: Path) -> None:
    """Check results against those of this process, which has one thread as workers have."""
    for path in paths:
        alone = dipfast.denoise(read_image(path).image, quality="fast").image
        assert np.array_equal(read_image(out / path.name).image, alone)


@pytest.fixture
def slow(client: Any, tmp_path: Path) -> Iterator[Path]:
    """Let workers take their time, and return the folder where they note what they do."""
    folder = tmp_path / "begun"
    folder.mkdir()
    client.run(on_workers.count_restorations, str(folder))
    yield folder
    client.run(on_workers.do_not_count)


def begun(folder: Path) -> Counter[str]:
    return Counter(path.name.split("-")[0] for path in folder.iterdir())


def test_results_have_the_bits_of_one_process(client: Any, pictures: Make, tmp_path: Path) -> None:
    paths, out = pictures(6), tmp_path / "out"
    told = []
    outcomes = restore(
        paths, out, client, on_progress=lambda outcome, done, total: told.append((done, total))
    )
    assert statuses(outcomes) == ["done"] * 6
    assert [outcome.input for outcome in outcomes] == paths
    assert told == [(number, 6) for number in range(1, 7)]
    check_bits(paths, out)
    assert sorted(Path(line["output"]).name for line in lines(out)) == [p.name for p in paths]
    assert all((out / f"{path.name}.json").exists() for path in paths)
    assert not [path for path in out.iterdir() if path.name.startswith(".")]


def test_a_second_call_does_nothing(
    pictures: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, out = pictures(3), tmp_path / "out"
    restore(paths, out)
    before = lines(out)
    with monkeypatch.context() as patch:
        # Not even a cluster is started.
        patch.setattr("dipfast.cluster.files.connect", None)
        assert statuses(restore(tmp_path / "in", out)) == ["skipped"] * 3
    assert lines(out) == before
    write_image(paths[1], np.full((24, 24), 9, np.uint8), overwrite=True)
    assert statuses(restore(paths, out)) == ["skipped", "done", "skipped"]
    # Other settings make other results.
    assert statuses(restore(paths, out, sigma=3)) == ["done"] * 3


def test_one_worker_is_killed_in_the_middle(
    client: Any, slow: Path, pictures: Make, tmp_path: Path
) -> None:
    paths, out = pictures(10), tmp_path / "out"

    def kill(outcome: FileOutcome, done: int, total: int) -> None:
        if done == 4:
            time.sleep(0.05)  # both workers are in the middle of the next one
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    outcomes = restore(paths, out, client, on_progress=kill)
    assert statuses(outcomes) == ["done"] * 10
    check_bits(paths, out)
    assert Counter(Path(line["output"]).name for line in lines(out)) == {p.name: 1 for p in paths}
    times = begun(slow)
    assert sum(times.values()) <= 11  # the one that the worker was doing, if it had begun


def test_a_result_whose_worker_was_killed_before_it_told_is_known(
    pictures: Make, tmp_path: Path
) -> None:
    """The second try finds the very result that it makes."""
    paths, out = pictures(2), tmp_path / "out"
    out.mkdir()
    result = dipfast.denoise(read_image(paths[0]).image, quality="fast")
    begin = FolderRecord.begin

    def begin_and_write(self: Any, line: Any, output: Path, **more: Any) -> None:
        begin(self, line, output, **more)
        if output.name == paths[0].name:
            result.save(output)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FolderRecord, "begin", begin_and_write)
        assert statuses(restore(paths, out)) == ["done", "done"]
    check_bits(paths, out)


def test_files_of_others_are_left(pictures: Make, tmp_path: Path) -> None:
    paths, out = pictures(2), tmp_path / "out"
    write = np.zeros((5, 5), np.uint8)
    out.mkdir()
    write_image(out / paths[0].name, write)
    outcomes = restore(paths, out)
    assert statuses(outcomes) == ["failed", "done"]
    assert "overwrite=True replaces it" in outcomes[0].message
    assert np.array_equal(read_image(out / paths[0].name).image, write)
    assert statuses(restore(paths, out, overwrite=True)) == ["done", "done"]
    check_bits(paths, out)


def test_results_of_another_folder_are_left(pictures: Make, tmp_path: Path) -> None:
    (path,), out = pictures(1), tmp_path / "out"
    assert statuses(restore([path], out)) == ["done"]
    other = tmp_path / "other" / path.name
    other.parent.mkdir()
    write_image(other, np.full((24, 24), 9, np.uint8))
    (outcome,) = restore([other], out)
    assert outcome.status == "failed"
    assert f"is the result of {path}; name another folder" in outcome.message
    check_bits([path], out)
    assert statuses(restore([path], out)) == ["skipped"]
    assert statuses(restore([other], out, overwrite=True)) == ["done"]


def test_one_that_cannot_be_read_fails_alone(pictures: Make, tmp_path: Path) -> None:
    paths, out = pictures(3), tmp_path / "out"
    paths[1].write_text("no picture")
    outcomes = restore(paths, out)
    assert statuses(outcomes) == ["done", "failed", "done"]
    assert "cannot read" in outcomes[1].message


def test_one_that_is_too_large_is_refused_before_it_is_sent(
    client: Any, pictures: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, out = pictures(2), tmp_path / "out"

    def declared(path: Path) -> tuple[int, int, int, int]:
        return (1, 3, 10**5, 10**5) if path == paths[0] else (1, 1, 24, 24)

    monkeypatch.setattr("dipfast.cluster.sizes.shape_of", declared)
    outcomes = restore(paths, out, client)
    assert statuses(outcomes) == ["failed", "done"]
    assert "GB, and the largest worker has" in outcomes[0].message


def test_a_folder_that_is_slow(client: Any, slow: Path, pictures: Make, tmp_path: Path) -> None:
    """Two workers wait for slow files at the same time, and no file is done twice."""
    paths, out = pictures(8), tmp_path / "out"
    assert statuses(restore(paths, out, client)) == ["done"] * 8
    assert sorted(begun(slow).values()) == [1] * 8
    assert len({path.name.split("-")[1] for path in slow.iterdir()}) == 2


def test_an_end_keeps_what_is_done(client: Any, slow: Path, pictures: Make, tmp_path: Path) -> None:
    paths, out = pictures(8), tmp_path / "out"
    interrupt = dipfast.Interrupt()
    first = restore(
        paths,
        out,
        client,
        interrupt=interrupt,
        on_progress=lambda outcome, done, total: done < 3 or interrupt.stop(),
    )
    found = Counter(statuses(first))
    assert set(found) == {"done", "left"}
    assert found["done"] >= 3
    time.sleep(0.5)  # jobs on workers of others go on to their end
    second = Counter(statuses(restore(paths, out, client)))
    assert second["skipped"] >= found["done"]
    assert second["skipped"] + second["done"] == 8
    check_bits(paths, out)


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
def test_ctrl_c_keeps_what_is_done(client: Any, slow: Path, pictures: Make, tmp_path: Path) -> None:
    paths, out = pictures(8), tmp_path / "out"

    def interrupt() -> None:  # when something is done
        end = time.monotonic() + 60
        while not (out / "dipfast.jsonl").exists() and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    waiting = threading.Thread(target=interrupt)
    waiting.start()
    found = Counter(statuses(restore(paths, out, client)))
    waiting.join()
    assert found["left"] > 0
    assert found["done"] == len(lines(out))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"callback": print}, "callback is something of this process"),
        ({"checkpoint": "x"}, "checkpoint is for a single image"),
        ({"reference": np.zeros((3, 3))}, "reference is for a single image"),
        ({"channel_axis": 2}, "channel_axis is told by each file"),
        ({"sigma": -1}, "sigma must be"),
    ],
)
def test_options_that_are_not_of_files(
    options: Any, text: str, pictures: Make, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=text):
        restore(pictures(1), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_inputs_that_are_none(pictures: Make, tmp_path: Path) -> None:
    (path,) = pictures(1)
    with pytest.raises(InputError, match="one picture at least"):
        restore([], tmp_path / "out")
    with pytest.raises(InputError, match="must not be that of"):
        restore([path], tmp_path / "in")
    other = tmp_path / path.name
    write_image(other, np.zeros((4, 4), np.uint8))
    with pytest.raises(InputError, match="would both be written"):
        restore([path, other], tmp_path / "out")


def test_other_tasks(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 255, (16, 16), np.uint8)
    values[3:6, 3:6] = 0
    write_image(tmp_path / "a.png", values)
    options: Any = {"scheduler": "threads", "quality": "fast"}
    done = restore_files("inpaint", [tmp_path / "a.png"], tmp_path / "filled", mask=0, **options)
    assert statuses(done) == ["done"]
    done = restore_files(
        "super_resolve", [tmp_path / "a.png"], tmp_path / "larger", factor=2, **options
    )
    assert statuses(done) == ["done"]
    assert read_image(tmp_path / "larger/a.png").image.shape == (32, 32)


def test_artefacts_of_poor_jpegs_are_taken_out(tmp_path: Path) -> None:
    from PIL import Image

    values = np.random.default_rng(0).normal(128, 25, (32, 32)).clip(0, 255).astype(np.uint8)
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / name for name in ("good.jpg", "poor.jpg")]
    for path, quality in zip(paths, (92, 20)):
        Image.fromarray(values).save(path, quality=quality)
    good, poor = restore(paths, tmp_path / "out")
    assert "artefacts" not in good.message
    assert "JPEG of quality 20: its artefacts are taken out" in poor.message
    assert main(["denoise", str(paths[1].parent), str(tmp_path / "cli"), "--quality", "fast"]) == 0
    for path in paths:
        made = [read_image(tmp_path / folder / path.name).image for folder in ("out", "cli")]
        assert np.array_equal(*made)
    assert statuses(restore(paths, tmp_path / "out")) == ["skipped"] * 2
    # What is said to be noise is another result.
    for options in ({"jpeg": None}, {"sigma": 5}):
        done = restore(paths, tmp_path / "out", **options)
        assert statuses(done) == ["done"] * 2
        assert "artefacts" not in done[1].message


def test_transparent_pixels_are_filled_in(tmp_path: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 255, (16, 16, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[3:6, 3:6] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    write_image(tmp_path / "b.png", pixels[..., 0])
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    options: Any = {"mask": "alpha", "scheduler": "threads", "quality": "fast"}
    options["mask_marks"] = "known"  # opacity says itself what is missing
    done = restore_files("inpaint", paths, tmp_path / "out", **options)
    assert statuses(done) == ["done", "failed"]
    assert "opacity, and this has none" in done[1].message
    made = read_image(tmp_path / "out/a.png")
    assert made.alpha is None
    known = pixels[..., 3] == 255
    assert np.array_equal(made.image[known], pixels[known][:, :3])
    assert made.image[~known].any()


def test_another_operator_is_another_result(tmp_path: Path) -> None:
    noisy = np.random.default_rng(0).integers(90, 120, (16, 16), np.uint8)
    write_image(tmp_path / "a.png", noisy)
    options: Any = {"scheduler": "threads", "quality": "fast", "method": "pnp"}

    def statuses_with(operator: Any) -> list[str]:
        inputs = [tmp_path / "a.png"]
        return statuses(
            restore_files("restore", inputs, tmp_path / "out", operator=operator, **options)
        )

    def blur(sigma: float = 1.05) -> Blur:
        return Blur(gaussian_kernel(sigma, 5))

    assert statuses_with(blur(1.0)) == ["done"]
    assert statuses_with(blur(1.0)) == ["skipped"]
    assert statuses_with(blur()) == ["done"]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("method", [[Stage("dip", 2)], [Stage("dip", 3)], [Stage("dip", 2, tv_weight=0.1)]]),
        ("jpeg", [JpegCoding(((step,) * 64,), ((1, 1),)) for step in (8, 16)]),
    ],
)
def test_other_stages_or_another_jpeg_are_another_result(
    name: str, values: Any, tmp_path: Path, use_small_network: Any
) -> None:
    use_small_network(2)
    # What any coding may have been made of.
    write_image(tmp_path / "a.png", np.full((16, 16), 128, np.uint8))

    def status_with(value: Any) -> str:
        done = restore_files(
            "denoise", [tmp_path / "a.png"], tmp_path / "out", scheduler="threads", **{name: value}
        )
        return done[0].status

    assert [status_with(value) for value in values] == ["done"] * len(values)
    assert status_with(values[-1]) == "skipped"


def test_operators_are_known_by_what_they_hold() -> None:
    from dipfast.cluster.files import _digest_of

    known = torch.ones(16, 16, dtype=torch.bool)
    known[2:4, 5] = False
    operators = [
        [Compose(Blur(gaussian_kernel(sigma, 5)), Mask(mask)) for _ in range(2)]
        for sigma, mask in ((1.0, known), (1.05, known), (1.05, known.flip(0)))
    ]
    digests = [[_digest_of(operator) for operator in pair] for pair in operators]
    assert all(first == second for first, second in digests)
    assert len({first for first, _ in digests}) == 3


def test_functions_are_known_by_their_code(tmp_path: Path) -> None:
    from dipfast.cluster.files import _digest_of

    digests = [_digest_of(function) for function in (lambda u: 0.5 * u, lambda u: 0.25 * u)]
    assert digests[0] != digests[1]
    code = (
        "from dipfast.cluster.files import _digest_of; "
        "from dipfast.operators import Blur, gaussian_kernel, Wrapped; "
        "print(_digest_of(Wrapped(Blur(gaussian_kernel(1.5)))))"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert told.strip() == _digest_of(Wrapped(Blur(gaussian_kernel(1.5))))  # in every process


def test_a_call_that_ended_in_an_error_lets_others_go_on(pictures: Make, tmp_path: Path) -> None:
    paths = pictures(1)
    with pytest.raises(InputError) as held:
        restore_files("denoise", paths, tmp_path / "out", scheduler="nothing", quality="fast")
    assert held.traceback  # which keeps what the call had, as that of a notebook
    assert statuses(restore(paths, tmp_path / "out")) == ["done"]


@pytest.mark.parametrize("ending", [".png", ".tif", ".npy", ".fits", ".jpg", ".webp"])
def test_heads_tell_shapes(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{ending}"
    write_image(path, np.zeros((20, 31), np.uint8))
    assert shape_of(path) in ((1, 1, 20, 31), (1, 3, 20, 31))
    assert shape_of(tmp_path / "none") is None


def test_heads_tell_raw_photographs_as_they_are_developed(tmp_path: Path) -> None:
    pytest.importorskip("rawpy")
    from tests.images.files.dng import BLACK, dng

    sensor = np.full((60, 80), BLACK + 9, np.uint16)
    for pattern, channels in ((bytes([0, 1, 1, 2]), 3), (b"", 1)):
        path = tmp_path / "a.dng"
        path.write_bytes(dng(sensor, pattern=pattern))
        assert shape_of(path) == (1, channels, 60, 80)


@pytest.mark.parametrize("ending", [".png", ".tif", ".bmp"])
def test_heads_tell_that_palettes_are_of_colours(ending: str, tmp_path: Path) -> None:
    from PIL import Image

    path = tmp_path / f"a{ending}"
    pixels = np.random.default_rng(0).integers(0, 256, (20, 31, 3), np.uint8)
    Image.fromarray(pixels).quantize(16).save(path)
    assert shape_of(path) == (1, 3, 20, 31)


@pytest.mark.parametrize("ending", [".png", ".jpg", ".bmp", ".pgm", ".ppm"])
def test_heads_of_pictures_beyond_the_limit_of_pillow(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{ending}"
    channels = 3 if ending == ".ppm" else 1
    write_image(path, np.zeros((20, 31, 3)[: 2 + (channels > 1)], np.uint8))
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 100)
    assert shape_of(path) == (1, channels, 20, 31)


@pytest.mark.parametrize("ending", [".npy", ".fits"])
@pytest.mark.parametrize("shape", [(3, 20, 31), (5, 20, 31), (5, 3, 20, 31)])
def test_heads_tell_channels_as_reading_does(
    ending: str, shape: tuple[int, ...], tmp_path: Path
) -> None:
    path = tmp_path / f"a{ending}"
    array = np.zeros(shape, np.uint8)
    if ending == ".npy":
        np.save(path, array)
    else:
        astropy_fits = pytest.importorskip("astropy.io.fits")
        astropy_fits.PrimaryHDU(array).writeto(path)
    source = read_image(path)
    channels = 1 if source.channel_axis is None else shape[source.channel_axis]
    planes = array.size // (20 * 31 * channels)
    assert shape_of(path) == (planes, channels, 20, 31)


def test_what_was_assumed_and_warned_of_is_told(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    values = np.random.default_rng(0).normal(128, 9, (3, 24, 24)).round().astype(np.uint16)
    np.save(path, values)
    (outcome,) = restore([path], tmp_path / "out", data_range=60000.0)
    assert outcome.status == "done"
    assert "the first axis is taken for channels" in outcome.message
    assert "99% of the values" in outcome.message
    assert lines(tmp_path / "out")[-1]["message"] == outcome.message


def test_planes_that_help_each_other_count_together() -> None:
    fast = {"quality": "fast", "device": "cpu"}
    together, alone = DenoiseSettings(**fast), DenoiseSettings(**fast, neighbours=0)
    volume = 4 * 24 * 1024**2
    least = estimate_memory(alone, (100, 1, 1024, 1024)) + 14 * volume
    assert estimate_memory(together, (100, 1, 1024, 1024)) > least
    one = (1, 1, 1024, 1024)
    assert estimate_memory(together, one) == estimate_memory(alone, one)


def test_pictures_are_cut_by_the_memory_of_workers() -> None:
    settings = DenoiseSettings(device="cpu")
    shape = (1, 1, 500, 600)
    whole = needs_of(settings, shape)
    assert (whole.memory, whole.limit) == (estimate_memory(settings, shape), None)
    assert needs_of(settings, shape, whole.memory) == whole
    need = needs_of(settings, shape, room := whole.memory * 0.75)
    assert need.memory <= room
    assert need.limit is not None
    picture = np.random.default_rng(0).normal(128, 9, shape[2:]).astype(np.float32)
    task = Task(picture, Layout.of(picture), [Identity()])
    with at_most(need.limit):
        (job,) = prepare(task, settings)
    assert job.tile in TILES
    # Where nothing fits, or a number was given, nothing is decided.
    assert needs_of(settings, shape, 1e8) == whole
    assert needs_of(DenoiseSettings(device="cpu", tile=128), shape, room).limit is None


def test_the_limit_of_an_order_goes_with_it(
    tmp_path: Path, pictures: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths, seen = pictures(1), list[int | None]()
    monkeypatch.setattr("dipfast.cluster.sizes.needs_of", lambda *_: Need(1000, 12_345))
    monkeypatch.setattr(
        "dipfast.denoise", lambda *_, **__: seen.append(available(torch.device("cpu")))
    )
    restore(paths, tmp_path / "out")
    assert seen == [12_345]


def test_memory_grows_with_the_picture() -> None:
    fast, fit = DenoiseSettings(quality="fast", device="cpu"), DenoiseSettings(device="cpu")
    small, large = (1, 3, 500, 500), (1, 3, 3000, 4000)
    assert estimate_memory(fast, small) < estimate_memory(fast, large) / 2
    assert estimate_memory(fit, large) > 5 * estimate_memory(fast, large)
    tiled = DenoiseSettings(device="cpu", tile=256)
    assert estimate_memory(tiled, large) < estimate_memory(fit, large) / 5
