"""Runs: how they go on, end, and are looked at; what they leave in files."""

from __future__ import annotations

import io
import json
import re
import stat
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

import dipfast
from dipfast.apps.notes import message_of
from dipfast.apps.studio import markup
from dipfast.apps.studio.orders import read_order
from dipfast.apps.studio.pictures import Picture
from dipfast.apps.studio.previews import LARGEST, Preview, live_range, shrunk
from dipfast.apps.studio.runs import Registry, Run
from dipfast.errors import InputError
from dipfast.images.files import ImageFile, read_image
from dipfast.prior.loop import State
from dipfast.run.observers import Progress
from dipfast.warn import warnings_told

LONG = {"max_iterations": "100000", "quality": "fast"}
Finish = Callable[..., Run]


def started(registry: Registry, picture: Picture, **fields: str) -> Run:
    return registry.start(picture, read_order({"task": "denoise", **fields}, picture))


def test_result_is_that_of_the_library(
    picture: Picture, noisy: np.ndarray, finished: Finish
) -> None:
    run = finished(picture, quality="fast")
    assert (run.look().headline, run.look().error) == ("Done", "")
    expected = dipfast.denoise(noisy, quality="fast", channel_axis=-1)
    assert np.array_equal(read_image(run.saved(0)).image, expected.image)
    found = dict(run.figures())
    assert "noise" in found["Found"]
    assert "nl_ridge" in found["End"]


def test_first_picture_is_there_before_the_fit_has_ended(
    registry: Registry, picture: Picture, until: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    was_seen, observe = threading.Event(), Run._observe

    def observe_and_wait(run: Run, source: ImageFile, state: State | Progress) -> None:
        observe(run, source, state)
        if run._fit_live.number:
            was_seen.wait(60)

    monkeypatch.setattr(Run, "_observe", observe_and_wait)
    monkeypatch.setattr("dipfast.apps.studio.runs._LOOKING", 60.0)
    run = started(registry, picture, quality="balanced")
    view = until(run, lambda view: view.fit or view.is_over)
    assert (view.status, view.picture > 0) == ("running", True)
    shown = run.live()
    assert shown is not None
    assert (shown.width, shown.height) == (40, 32)
    was_seen.set()
    assert until(run, lambda view: view.is_over).status == "done"
    assert run.frames[run.kept].is_automatic
    assert run.frames[0].name == "the first picture"


def test_live_pictures_are_made_only_while_somebody_looks(
    registry: Registry, picture: Picture, until: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dipfast.apps.studio.runs._BETWEEN_PICTURES", 0.0)
    monkeypatch.setattr("dipfast.apps.studio.runs._LOOKING", -60.0)
    run = started(registry, picture, **LONG)
    until(run, lambda view: "Iteration" in view.headline)
    assert run.look().picture == 0
    monkeypatch.setattr("dipfast.apps.studio.runs._LOOKING", 60.0)
    until(run, lambda view: view.picture > 1)
    run.stop()


def test_command_is_no_look_at_the_picture(picture: Picture, tmp_path: Path) -> None:
    """A page that was closed shows the command, too, and nobody looks at it."""
    run = Run(1, picture, read_order({"task": "denoise"}, picture), tmp_path)
    before = run._looked_at
    assert "dipfast denoise scan.png" in markup.command(run)
    assert run._looked_at == before


def test_fit_at_work_has_the_known_pixels_and_is_called_so(
    picture: Picture,
    noisy: np.ndarray,
    finished: Finish,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dipfast.apps.studio.runs._BETWEEN_PICTURES", 0.0)
    monkeypatch.setattr("dipfast.apps.studio.runs._LOOKING", 60.0)
    seen: list[tuple[bool, str, np.ndarray]] = []
    observe = Run._observe

    def observe_and_look(run: Run, source: ImageFile, state: State | Progress) -> None:
        run.look()
        observe(run, source, state)
        live, view = run.live(), run.look()
        if live is not None:
            seen.append((view.is_fit, markup.progress(view), pixels_of(live)))

    monkeypatch.setattr(Run, "_observe", observe_and_look)
    mask = np.zeros((32, 40), bool)
    mask[4:9, 5:11] = True
    number = str(picture.add_mask(mask))
    run = finished(picture, task="inpaint", mask=number, max_iterations="3", quality="fast")
    assert run.look().status == "done"
    assert len(seen) == 3
    for is_fit, page, pixels in seen:
        assert is_fit
        assert "The fit at work is shown" in page
        assert np.array_equal(pixels[~mask], noisy[~mask])
    assert not run.look().is_fit


def test_stopped_run_keeps_what_there_is(
    registry: Registry, picture: Picture, until: Callable
) -> None:
    run = started(registry, picture, **LONG)
    view = until(run, lambda view: view.seconds_left is not None)
    assert 0 < view.share < 1
    assert view.stage
    run.stop()
    view = until(run, lambda view: view.is_over)
    assert (view.status, view.headline) == ("done", "Stopped, and kept")
    assert run.saved(run.automatic).stat().st_size > 0
    assert "# It does not stop where you stopped.\n" in run.page(run.automatic).read_text()
    assert "It does not stop where you stopped." in markup.command(run)
    assert run.curve().startswith("<svg")


def test_stop_of_a_run_that_is_over_changes_nothing(picture: Picture, finished: Finish) -> None:
    run = finished(picture, quality="fast")
    run.stop()
    assert (run.look().headline, run.look().is_stopping) == ("Done", False)


def test_kept_snapshot_is_what_is_saved(
    registry: Registry, picture: Picture, finished: Finish
) -> None:
    run = finished(picture, max_iterations="30", quality="fast")
    assert len(run.frames) > 5
    assert [frame.iteration for frame in run.frames] == sorted(f.iteration for f in run.frames)
    assert sum(frame.is_automatic for frame in run.frames) == 1
    # What the run says of the picture that it has chosen is not told of another one.
    run._result = replace(run.result, expected_psnr=30.0, best_iteration=7)
    assert dict(run.figures())["Expected PSNR"] == "30.0 dB"
    run.keep(2)
    assert run.kept == 2 != run.automatic
    found = dict(run.figures())
    assert found["End"] == f"{run.frames[2].name}, chosen by hand"
    assert "Expected PSNR" not in found
    assert "best" not in found["Found"]
    path = run.saved(run.kept)
    assert np.array_equal(read_image(path).image, run.frames[2].image)
    record = json.loads(path.with_name(path.name + ".json").read_text())
    assert record["stop_detail"].startswith(f"{run.frames[2].name}, chosen by hand")
    page = run.page(run.kept).read_text()
    assert "# It makes the automatic choice again, not the picture that you chose.\n" in page
    assert "dipfast denoise scan.png" in page
    assert not re.search(r"\bbest\b", re.sub("(?s)<(style|script)>.*?</\\1>", "", page))
    assert "automatic choice" not in run.page(run.automatic).read_text()
    with pytest.raises(InputError, match="there is no picture 99"):
        run.keep(99)


def test_known_pixels_stay_in_chosen_snapshots(
    registry: Registry, finished: Finish, tmp_path: Path
) -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0.1, 0.01, (24, 24)).astype(np.float32)
    path = tmp_path / "float.tif"
    tifffile.imwrite(path, values)
    picture = registry.open_copy(path)
    mask = np.zeros((24, 24), bool)
    mask[4:9, 5:11] = True
    number = str(picture.add_mask(mask))
    run = finished(picture, task="inpaint", mask=number, max_iterations="12")
    assert len(run.frames) > 3
    saved = read_image(run.saved(1)).image
    assert saved.dtype == np.float32
    assert np.array_equal(saved[~mask], values[~mask])
    assert not np.array_equal(saved[mask], values[mask])


def test_missing_values_stay_filled_in_chosen_snapshots(
    registry: Registry, noisy: np.ndarray, tmp_path: Path, finished: Finish
) -> None:
    values = noisy[..., 0].astype(np.float32) / 255
    values[3:5, 4] = np.nan
    tifffile.imwrite(tmp_path / "holes.tif", values)
    picture = registry.open_copy(tmp_path / "holes.tif")
    painted = np.zeros(values.shape, bool)
    painted[20:23, 9] = True
    run = finished(picture, task="inpaint", mask=str(picture.add_mask(painted)))
    chosen = next(k for k, frame in enumerate(run.frames) if not frame.is_automatic)
    assert np.isfinite(read_image(run.saved(chosen)).image).all()


def test_tiles_are_told(registry: Registry, picture: Picture) -> None:
    run = Run(1, picture, read_order({"task": "denoise"}, picture), registry.folder)
    shown = torch.zeros(1, 3, 8, 8)
    run._status = "running"
    run._observe(picture.read(), Progress(0.01, None, tiles=20))
    assert run.look().headline == "Making a first picture"
    for share, image in ((0.03, shown), (0.05, None), (0.08, shown), (0.1, None)):
        run._observe(picture.read(), Progress(share, image, tiles=20))
        view = run.look()
        assert (view.headline, view.share) == ("Fitting tiles", share)
    run._step_began -= 60
    left = run.look().seconds_left
    assert left is not None
    assert 500 < left < 600  # nine times as long as what was done


def test_depth_and_metadata_are_those_of_the_file(
    registry: Registry, finished: Finish, tmp_path: Path
) -> None:
    values = np.random.default_rng(0).normal(3000, 300, (32, 32)).astype(np.uint16)
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, values, resolution=(300, 300), resolutionunit="INCH")
    run = finished(registry.open_copy(path), quality="fast")
    saved = read_image(run.saved(0))
    assert saved.image.dtype == np.uint16
    assert saved.metadata["resolution"].unit == "inch"
    assert saved.metadata["resolution"].x == 300


def test_enlarged_result(picture: Picture, finished: Finish) -> None:
    run = finished(picture, task="super_resolve", factor="2", quality="fast")
    assert read_image(run.saved(0)).size == (64, 80)
    assert run.frame(0).width == 80


def test_deblurred_result(picture: Picture, finished: Finish) -> None:
    run = finished(picture, task="restore", blur="1", max_iterations="8")
    assert read_image(run.saved(run.automatic)).size == (32, 40)


def test_artefacts_of_a_jpeg_are_taken_out(
    registry: Registry, noisy: np.ndarray, finished: Finish, tmp_path: Path
) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(noisy).save(path, quality=25)
    run = finished(registry.open_copy(path), jpeg="yes")
    assert run.look().status == "done"
    assert "artefacts of JPEG" in dict(run.figures())["Found"]
    assert run.saved(0).suffix == ".jpg"


def test_transparent_pixels_are_filled_in(
    registry: Registry, noisy: np.ndarray, finished: Finish, tmp_path: Path
) -> None:
    alpha = np.full((32, 40, 1), 255, np.uint8)
    alpha[10:14, 10:14] = 0
    path = tmp_path / "clear.png"
    Image.fromarray(np.concatenate([noisy, alpha], axis=-1)).save(path)
    run = finished(
        registry.open_copy(path), task="inpaint", mask_kind="transparent", quality="fast"
    )
    saved = read_image(run.saved(0))
    assert saved.alpha is None
    known = alpha[..., 0] > 0
    assert np.array_equal(saved.image[known], noisy[known])


def test_failure_is_told_and_the_next_run_goes_on(
    registry: Registry, picture: Picture, finished: Finish, tmp_path: Path
) -> None:
    values = np.full((16, 16), np.nan, np.float32)
    values[0, 0] = 1
    path = tmp_path / "nan.tif"
    tifffile.imwrite(path, values)
    view = finished(registry.open_copy(path), quality="fast").look()
    assert view.status == "failed"
    assert "NaN" in view.error or "finite" in view.error
    assert finished(picture, quality="fast").look().status == "done"


def test_unexpected_failure_is_told(
    picture: Picture,
    finished: Finish,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the device is gone\nand much more")

    monkeypatch.setattr("dipfast.denoise", fail)
    view = finished(picture).look()
    assert (view.status, view.error) == ("failed", "the device is gone")
    assert "Traceback" in capsys.readouterr().err


def test_failure_between_runs_does_not_end_the_thread(
    registry: Registry,
    picture: Picture,
    finished: Finish,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail() -> None:
        raise ImportError("no torch")

    monkeypatch.setattr("dipfast.apps.studio.runs._import_torch", fail)
    registry.warm_up()
    assert finished(picture, quality="fast").look().status == "done"
    assert "no torch" in capsys.readouterr().err


def test_one_run_computes_and_the_others_wait(
    registry: Registry, picture: Picture, until: Callable
) -> None:
    first = started(registry, picture, **LONG)
    second = started(registry, picture, quality="fast")
    third = started(registry, picture, quality="fast")
    until(first, lambda view: view.status == "running")
    assert second.look().headline == "Waiting for another run"
    third.stop()
    assert third.look().status == "cancelled"
    first.stop()
    assert until(second, lambda view: view.is_over).status == "done"
    assert third.look().headline == "Cancelled before it began"


def test_folder_is_private_and_removed(picture: Picture, registry: Registry) -> None:
    assert stat.S_IMODE(registry.folder.stat().st_mode) == 0o700
    assert picture.path.parent == registry.folder
    run = started(registry, picture, **LONG)
    registry.close()
    registry.join(20)
    assert not registry.folder.exists()
    assert not registry._thread.is_alive()
    assert run.look().is_over


def test_warnings_of_a_run_are_its_notes(picture: Picture, finished: Finish) -> None:
    mask = np.ones((32, 40), bool)
    mask[:, 7] = False
    run = finished(picture, task="inpaint", mask=str(picture.add_mask(mask)), quality="fast")
    assert any("97.5% of the pixels are missing" in note for note in run.look().notes)


def test_warnings_are_told_where_they_come_from() -> None:
    told: dict[str, list[str]] = {"a": [], "b": []}
    barrier = threading.Barrier(2, timeout=10)

    def work(name: str) -> None:
        with warnings_told(told[name].append):
            barrier.wait()
            warnings.warn(f"of {name}", UserWarning, stacklevel=1)
            warnings.warn(f"of {name}", UserWarning, stacklevel=1)
            barrier.wait()

    threads = [threading.Thread(target=work, args=(name,)) for name in told]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert told == {"a": ["of a"] * 2, "b": ["of b"] * 2}
    with pytest.raises(UserWarning, match="outside"):
        warnings.warn("outside", UserWarning, stacklevel=1)


def test_messages_are_one_line() -> None:
    assert message_of(RuntimeError("one\ntwo")) == "one"
    assert message_of(MemoryError()) == "memory does not suffice"
    assert message_of(OSError(28, "No space left on device")) == "No space left on device"


@pytest.mark.parametrize("task", ["denoise", "super_resolve", "restore"])
def test_live_pictures_are_as_bright_as_the_input(task: str) -> None:
    values = np.linspace(200, 40000, 24 * 24).reshape(24, 24).astype(np.uint16)
    calls = {
        "denoise": lambda: dipfast.denoise(values, max_iterations=1),
        "super_resolve": lambda: dipfast.super_resolve(values, 2, max_iterations=1),
        "restore": lambda: dipfast.restore(
            values,
            dipfast.operators.Blur(dipfast.operators.gaussian_kernel(1.0)),
            max_iterations=1,
        ),
    }
    low, high = calls[task]().found["data_range"]
    shown = live_range(task, values.dtype)
    ends = [low + share * (high - low) for share in shown]
    assert ends == pytest.approx([200, 40000])
    assert live_range(task, np.dtype(np.uint8)) == (0, 1)


@pytest.mark.parametrize("kind", ["stretched", "missing"])
def test_live_pictures_are_as_bright_as_what_is_known(
    registry: Registry, tmp_path: Path, kind: str
) -> None:
    ramp = np.linspace(0, 1, 40 * 48).reshape(40, 48)
    fields, mask = {"task": "denoise"}, np.zeros(ramp.shape, bool)
    values = (10 * 5000**ramp).astype(np.float32)
    if kind == "missing":
        # What is missing is far brighter than all that is known.
        mask[10:14, 10:14] = True
        values = np.where(mask, 60000, 1000 + 1000 * ramp).astype(np.uint16)
        fields = {"task": "inpaint", "mask_kind": "file"}
    path = tmp_path / "deep.tif"
    tifffile.imwrite(path, values)
    picture = registry.open_copy(path)
    if kind == "missing":
        fields["mask"] = str(picture.add_mask(mask))
    run = Run(1, picture, read_order(fields, picture), tmp_path)
    # The task works with the logarithm of the one, and in the range of what is known of the other.
    run._observe(picture.read(), Progress(0.0, torch.from_numpy(ramp)[None, None].float()))
    live = run.live()
    assert live is not None
    away = np.abs(pixels_of(live) - pixels_of(picture.preview))[~mask]
    assert away.max() <= 4


def pixels_of(shown: Preview) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(shown.data)), float)


def test_large_live_pictures_are_shrunk_before_they_are_kept() -> None:
    image = torch.zeros(1, 3, 2 * LARGEST, 3 * LARGEST)
    image[..., :LARGEST] = 1
    small = shrunk(image)
    assert max(small.shape[-2:]) <= 2 * LARGEST
    assert small.mean() == pytest.approx(1 / 3, abs=1e-3)
    assert shrunk(torch.zeros(1, 1, 8, 8)).shape == (1, 1, 8, 8)
