"""Checkpoints are whole or refused, and a resumed run gives the same bits."""

from __future__ import annotations

import copy
import json
import math
import os
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import dipfast
from dipfast.errors import CheckpointMismatchError, InputError, InputTypeError
from dipfast.networks import HourglassConfig
from dipfast.operators import Blur, Compose, Downsample, Identity, gaussian_kernel
from dipfast.prior.objective import Goal
from dipfast.prior.stages import Stage
from dipfast.run import record
from dipfast.run.checkpoint import Checkpoint, CheckpointFile, digest_of, read_checkpoint
from dipfast.settings.presets import Preset
from dipfast.stopping import Decision, HeldOut, StopReason, StopRule

Pair = tuple[np.ndarray, np.ndarray]


@pytest.fixture(autouse=True)
def small_network(use_small_network: Callable[..., None]) -> None:
    use_small_network(24, average_decay=0.9)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.checkpoint"


class TestFile:
    values: ClassVar = {
        "float": torch.rand(3, 4),
        "double": torch.rand(2, dtype=torch.float64),
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(5),
        "bytes": torch.arange(9, dtype=torch.uint8).reshape(3, 3),
        "strided": torch.rand(4, 6)[:, ::2],
        "number": 0.1 + 0.2,
        "infinite": math.inf,
        "count": 3,
        "text": "x",
    }

    def test_comes_back_as_it_was(self, path: Path) -> None:
        CheckpointFile(path).write(Checkpoint(self.values, {"seed": 0, "range": [0.0, 1.0]}))
        back = CheckpointFile(path).read({"seed": 0, "range": [0.0, 1.0]})
        assert back.values.keys() == self.values.keys()
        for name, value in self.values.items():
            if isinstance(value, torch.Tensor):
                assert back.values[name].dtype == value.dtype
                assert torch.equal(back.values[name], value)
            else:
                assert back.values[name] == value

    def test_is_not_there(self, path: Path) -> None:
        assert CheckpointFile(path).read({}) is None
        with pytest.raises(FileNotFoundError, match=r"the folder .*nowhere does not exist"):
            CheckpointFile(path.parent / "nowhere" / "x").read({})

    def test_the_one_before_is_kept(self, path: Path) -> None:
        file = CheckpointFile(path)
        for k in range(3):
            file.write(Checkpoint({"k": k}, {}))
        assert read_checkpoint(path).values["k"] == 2
        assert read_checkpoint(file.previous).values["k"] == 1
        assert sorted(p.name for p in path.parent.iterdir()) == [path.name, file.previous.name]

    @given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
    def test_every_flipped_bit_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, where: float, bit: int
    ) -> None:
        path = tmp_path_factory.mktemp("flipped") / "x"
        CheckpointFile(path).write(Checkpoint(self.values, {"seed": 0}))
        content = bytearray(path.read_bytes())
        content[int(where * len(content))] ^= 1 << bit
        path.write_bytes(content)
        try:
            back = read_checkpoint(path)
        except ValueError as error:
            assert "is no checkpoint or damaged" in str(error)  # noqa: PT017
        else:  # spaces that pad the header mean nothing
            assert torch.equal(back.values["float"], self.values["float"])

    @given(length=st.floats(0, 1, exclude_max=True))
    def test_every_truncation_is_found(
        self, tmp_path_factory: pytest.TempPathFactory, length: float
    ) -> None:
        path = tmp_path_factory.mktemp("cut") / "x"
        CheckpointFile(path).write(Checkpoint(self.values, {"seed": 0}))
        content = path.read_bytes()
        path.write_bytes(content[: int(length * len(content))])
        with pytest.raises(ValueError, match="is no checkpoint or damaged"):
            read_checkpoint(path)

    def test_damaged_the_one_before_is_used(self, path: Path) -> None:
        file = CheckpointFile(path)
        file.write(Checkpoint({"k": 1}, {}))
        file.write(Checkpoint({"k": 2}, {}))
        path.write_bytes(path.read_bytes()[:-1])
        file = CheckpointFile(path)
        with pytest.warns(UserWarning, match=r"damaged: .*; going on from the one before it"):
            assert file.read({}).values["k"] == 1
        # The damaged one must not take the place of the whole one.
        file.write(Checkpoint({"k": 3}, {}))
        assert read_checkpoint(file.previous).values["k"] == 1
        for damaged in (path, file.previous):
            damaged.write_bytes(b"nonsense")
        with pytest.raises(ValueError, match="is no checkpoint or damaged"):
            CheckpointFile(path).read({})

    def test_what_cannot_be_gone_on_from_names_a_way_out(self, path: Path) -> None:
        CheckpointFile(path).write(Checkpoint({"k": 1}, {"tile": [128]}))
        # Tiles may be chosen by the memory that is free: which ones is to be known.
        with pytest.raises(
            ValueError, match=r"tile is \[128\] there, \[0\] here; .*another file name begins"
        ):
            CheckpointFile(path).read({"tile": [0]})
        path.write_bytes(b"nonsense")
        with pytest.raises(ValueError, match=r"or damaged: .*; another file name begins anew"):
            CheckpointFile(path).read({})

    def test_a_folder_is_refused(self, path: Path) -> None:
        path.mkdir()
        for refuse in (CheckpointFile(path).check_free, lambda: CheckpointFile(path).read({})):
            with pytest.raises(InputError, match=r"must be a file, got the folder .*in it"):
                refuse()

    def test_killed_between_two_renamings(self, path: Path) -> None:
        file = CheckpointFile(path)
        file.write(Checkpoint({"k": 1}, {}))
        path.rename(file.previous)
        (path.parent / f".{path.name}.partial").write_bytes(b"half")
        file = CheckpointFile(path)
        assert file.read({}).values["k"] == 1
        file.write(Checkpoint({"k": 2}, {}))
        assert read_checkpoint(file.previous).values["k"] == 1
        assert not (path.parent / f".{path.name}.partial").exists()

    def test_a_failed_writing_leaves_the_last_one(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = CheckpointFile(path)
        file.write(Checkpoint({"k": 1}, {}))

        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(OSError, match="No space left"):
            file.write(Checkpoint({"k": 2}, {}))
        assert read_checkpoint(path).values["k"] == 1
        assert [p.name for p in path.parent.iterdir()] == [path.name]

    def test_a_failed_renaming_is_made_good_by_the_next_writing(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = CheckpointFile(path)
        file.write(Checkpoint({"k": 1}, {}))
        rename = os.replace

        def opened_by_a_scanner(source: Path, target: Path) -> None:
            if Path(target) == path:
                raise PermissionError(13, "Permission denied")
            rename(source, target)

        with monkeypatch.context() as patch:
            patch.setattr("os.replace", opened_by_a_scanner)
            with pytest.raises(PermissionError):
                file.write(Checkpoint({"k": 2}, {}))
        assert read_checkpoint(file.previous).values["k"] == 1
        file.write(Checkpoint({"k": 3}, {}))
        assert read_checkpoint(path).values["k"] == 3
        path.unlink()  # by somebody else
        file.write(Checkpoint({"k": 4}, {}))
        assert read_checkpoint(path).values["k"] == 4

    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"\0" * 7,
            b"\xff" * 100,
            (10**9).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"{}",
            (2).to_bytes(8, "little") + b"[]",
            (4).to_bytes(8, "little") + b"null",
            (40).to_bytes(8, "little") + b'{"__metadata__":{"format":"something"}}  ',
            (30).to_bytes(8, "little") + b'{"__metadata__":[1,2,3]}      ',
            (200_000).to_bytes(8, "little") + b"[" * 200_000,
        ],
        ids=range(10),
    )
    def test_nonsense_is_refused(self, path: Path, content: bytes) -> None:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no checkpoint or damaged"):
            read_checkpoint(path)

    def test_a_link_is_replaced_and_not_followed(self, path: Path) -> None:
        precious = path.parent / "precious"
        precious.write_bytes(b"precious")
        (path.parent / f".{path.name}.partial").symlink_to(precious)
        file = CheckpointFile(path)
        file.write(Checkpoint({"k": 1}, {}))
        assert precious.read_bytes() == b"precious"
        path.unlink()
        path.symlink_to(precious)
        with pytest.raises(FileExistsError, match=r"checkpoint .* exists already"):
            file.check_free()


def images_of(noisy: np.ndarray) -> dict[str, Any]:
    tensor = torch.from_numpy(noisy).permute(2, 0, 1)[None]
    return {"batch": torch.cat([tensor, tensor.flip(-1)]), "array": noisy}


def check_same(a: dipfast.Result, b: dipfast.Result) -> bool:
    """Check that two results are equal to the last bit, except for their time."""
    images = ("image", "raw_image", "best_output", "stop_image", "stop_output")
    assert all((np.asarray(getattr(a, n)) == np.asarray(getattr(b, n))).all() for n in images)
    assert a.history == b.history
    assert [s.iteration for s in a.snapshots] == [s.iteration for s in b.snapshots]
    assert all(
        (np.asarray(s.image) == np.asarray(t.image)).all() for s, t in zip(a.snapshots, b.snapshots)
    )
    reports = [{**result.report(), "seconds": None} for result in (a, b)]
    assert reports[0] == reports[1]
    return True


class TestResume:
    @pytest.mark.filterwarnings("ignore:es_wmv needs")
    @pytest.mark.parametrize("stop", ["auto", "held_out", "es_wmv", "es_emv", "none"])
    @pytest.mark.parametrize("method", ["two_stage", "deep_red", "two_stage_input"])
    @pytest.mark.parametrize("kind", ["array", "batch"])
    def test_goes_on_to_the_same_bits(
        self, noisy_pair: Pair, path: Path, stop: str, method: str, kind: str
    ) -> None:
        image = images_of(noisy_pair[0])[kind]
        reference = images_of(noisy_pair[1])[kind]
        options = {
            "stop": stop,
            "method": method,
            "snapshots": 0.05,
            "reference": reference,
            "seed": 3,
        }
        whole = dipfast.denoise(image, **options)
        options |= {"checkpoint": path, "checkpoint_every": 4}
        count = 0

        def kill(state):
            nonlocal count
            count += 1
            if count in (6, 10):
                raise ZeroDivisionError  # an exception that the loop does not handle

        for _ in range(3):
            try:
                result = dipfast.denoise(image, **options, callback=kill, resume=True)
                break
            except ZeroDivisionError:
                pass
        assert count >= 10
        assert check_same(result, whole)
        # Resuming a finished run gives the same result again.
        assert check_same(dipfast.denoise(image, **options, resume=True), whole)

    def test_other_tasks(self, noisy_pair: Pair, path: Path) -> None:
        noisy = noisy_pair[0]
        mask = np.random.default_rng(0).random(noisy.shape[:2]) < 0.3
        calls = {
            "inpaint": lambda **o: dipfast.inpaint(noisy, mask, sigma="auto", **o),
            "super_resolve": lambda **o: dipfast.super_resolve(noisy, 2, **o),
            "restore": lambda **o: dipfast.restore(noisy, Blur(gaussian_kernel(1.0)), **o),
        }
        for name, call in calls.items():
            whole = call()
            file = path.with_name(name)
            call(checkpoint=file, callback=_stop_at(9))
            assert check_same(call(checkpoint=file, resume=True), whole)

    def test_runs_that_were_ended_early_can_be_resumed(self, noisy_pair: Pair, path: Path) -> None:
        whole = dipfast.denoise(noisy_pair[0])
        with pytest.warns(UserWarning, match="after 1 of 24 iterations .* resume goes on"):
            paused = dipfast.denoise(noisy_pair[0], checkpoint=path, time_limit=1e-6)
        assert (paused.stop_detail, paused.stop_iteration) == ("1e-06 seconds have passed", 1)
        assert paused.stop_reason is StopReason.TIME_LIMIT
        stopped = dipfast.denoise(noisy_pair[0], checkpoint=path, callback=_stop_at(5), resume=True)
        assert (stopped.stop_reason, stopped.stop_iteration) == ("stopped by the callback", 5)
        interrupt = dipfast.Interrupt()
        interrupt.stop()
        once = dipfast.denoise(noisy_pair[0], checkpoint=path, interrupt=interrupt, resume=True)
        assert (once.stop_reason, once.stop_iteration) == ("stopped", 6)
        assert check_same(dipfast.denoise(noisy_pair[0], checkpoint=path, resume=True), whole)

    def test_of_a_fit_that_gives_up_early(self, noisy_pair: Pair, path: Path) -> None:
        """Its last image is the best one, and a file cannot hold one memory under two names."""

        def run(**more: Any) -> dipfast.Result:
            return dipfast.denoise(noisy_pair[0], method="dip", learning_rate=1e30, **more)

        whole = run()
        assert whole.stop_reason is StopReason.GAVE_UP
        assert check_same(run(checkpoint=path), whole)
        assert check_same(run(checkpoint=path, resume=True), whole)

    def test_spikes_are_undone_after_resuming(self, noisy_pair: Pair, path: Path) -> None:
        # The copy of the weights and the recent losses are in the checkpoint.
        def run(**more):
            options = {"max_iterations": 60, "method": "dip", "stop": "none"}
            return dipfast.denoise(noisy_pair[0], **options, **more)

        whole = run(callback=_throw_off(50))
        assert whole.spikes == 1
        run(checkpoint=path, callback=_stop_at(40))
        assert check_same(run(checkpoint=path, resume=True, callback=_throw_off(50)), whole)

    def test_refuses_what_exists(self, noisy_pair: Pair, path: Path) -> None:
        dipfast.denoise(noisy_pair[0], max_iterations=2, checkpoint=path)
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match=r"checkpoint .* exists already: go on from it"):
            dipfast.denoise(noisy_pair[0], max_iterations=2, checkpoint=path)
        path.rename(path.with_name(f"{path.name}.previous"))
        with pytest.raises(FileExistsError, match=r"checkpoint .*previous exists already"):
            dipfast.denoise(noisy_pair[0], max_iterations=2, checkpoint=path)
        assert path.with_name(f"{path.name}.previous").read_bytes() == before

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"seed": 1}, "seed is 0 there, 1 here"),
            ({"max_iterations": 5}, "max_iterations is 4 there, 5 here"),
            ({"tv_weight": 0.5}, "tv_weight is 'auto' there, 0.5 here"),
            ({"stop": "none"}, "stop.class is 'Automatic' there, 'Never' here"),
            ({"stop": HeldOut(0.2)}, "stop.class is 'Automatic' there, 'HeldOut' here"),
            ({"method": "dip"}, "method is 'two_stage' there, 'dip' here"),
            ({"method": [Stage("dip", 4)]}, r"method is 'two_stage' there, \["),
            (
                {"preset": Preset(4, (0.1, 0.1), HourglassConfig((8,), (8,), (4,)))},
                "preset.iterations is",
            ),
            ({"sigma": 20}, "sigma is 'auto' there, 20.0 here"),
            ({"reference": "itself"}, "reference is None there"),
            ({"image": "other"}, r"image is '.{8}\.\.\. there"),
        ],
        ids=str,
    )
    def test_another_run_is_refused(
        self, noisy_pair: Pair, path: Path, changes: dict[str, Any], message: str
    ) -> None:
        noisy = noisy_pair[0]
        options: dict[str, Any] = {"max_iterations": 4, "checkpoint": path}
        dipfast.denoise(noisy, **options)
        before = path.read_bytes()
        options |= changes
        if options.pop("image", None):
            noisy = noisy.copy()
            noisy[0, 0, 0] ^= 1
        if options.get("reference"):
            options["reference"] = noisy
        if not isinstance(options.get("method", ""), str):
            del options["max_iterations"]
        with pytest.raises(ValueError, match=f"is one of another run: .*{message}"):
            dipfast.denoise(noisy, **options, resume=True)
        assert path.read_bytes() == before

    def test_what_can_be_read_of_another_run_comes_first(self, path: Path) -> None:
        there = {"fits": [["balanced", 30]], "image": "a" * 80, "seed": 0}
        here = {"fits": [["balanced", 40]], "image": "b" * 80, "seed": 1}
        CheckpointFile(path).write(Checkpoint({"done": 1}, there))
        expected = (
            "seed is 0 there, 1 here; fits differs; image is 'aaaaaaaa... there, 'bbbbbbbb..."
        )
        with pytest.raises(CheckpointMismatchError, match=f": {expected}"):
            CheckpointFile(path).read(here)

    @pytest.mark.parametrize("name", ["version of dipfast", "version of torch"])
    def test_another_version_is_refused(self, noisy_pair: Pair, path: Path, name: str) -> None:
        dipfast.denoise(noisy_pair[0], max_iterations=2, checkpoint=path)
        there = read_checkpoint(path)
        CheckpointFile(path).write(Checkpoint(there.values, {**there.identity, name: "0.0.1"}))
        with pytest.raises(ValueError, match=f"another run: {name} is '0.0.1' there"):
            dipfast.denoise(noisy_pair[0], max_iterations=2, checkpoint=path, resume=True)

    def test_values_that_do_not_fit_are_refused(self, noisy_pair: Pair, path: Path) -> None:
        dipfast.denoise(noisy_pair[0], max_iterations=9, checkpoint=path, callback=_stop_at(3))
        there = read_checkpoint(path)
        refused = 0
        for name in ("0.prior.average", "0.prior.generator", "0.history.loss", "0.recovery.back"):
            for value in (None, torch.zeros(3), "text"):
                values = {k: v for k, v in there.values.items() if k != name}
                if value is not None:
                    values[name] = value
                CheckpointFile(path).write(Checkpoint(values, there.identity))
                try:
                    dipfast.denoise(noisy_pair[0], max_iterations=9, checkpoint=path, resume=True)
                except CheckpointMismatchError as error:
                    assert "does not fit" in str(error)  # noqa: PT017
                    refused += 1
        # A column of a history may have any length, or be missing.
        assert refused >= 9

    def test_a_full_disk_does_not_end_the_work(
        self, noisy_pair: Pair, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(*_: Any) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("os.fsync", full)
        with pytest.warns(UserWarning, match=r"run.checkpoint not written: .*No space left"):
            result = dipfast.denoise(
                noisy_pair[0], max_iterations=4, checkpoint=path, checkpoint_every=2
            )
        assert result.stop_iteration == 4

    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            ({"checkpoint_every": 0}, ValueError, "checkpoint_every must be a positive integer"),
            ({"checkpoint_every": 2.5}, ValueError, "checkpoint_every must be a positive"),
            ({"resume": True}, ValueError, "resume=True needs a checkpoint"),
            ({"resume": 1}, TypeError, "resume must be True or False, got 1"),
            ({"checkpoint": "/no/such/folder/x"}, FileNotFoundError, "folder /no/such/folder"),
            ({"time_limit": -1}, ValueError, "time_limit must be a positive number, got -1"),
            ({"time_limit": math.nan}, ValueError, "time_limit must be a positive number"),
            ({"snapshots": True}, ValueError, "snapshots must be a positive number, got True"),
            ({"interrupt": print}, TypeError, "interrupt must be an Interrupt, got builtin"),
        ],
        ids=str,
    )
    def test_options_are_checked(
        self, noisy_pair: Pair, options: dict[str, Any], error: type[Exception], message: str
    ) -> None:
        with pytest.raises(error, match=message):
            dipfast.denoise(noisy_pair[0], max_iterations=1, **options)


def _stop_at(iteration: int):
    def callback(state):
        if state.iteration == iteration:
            raise StopIteration

    return callback


def _throw_off(iteration: int):
    def callback(state):
        if state.iteration == iteration:
            with torch.no_grad():
                for parameter in state.prior.network.parameters():
                    parameter.fill_(3.0)

    return callback


class TestIdentity:
    def test_is_json_and_tells_values_apart(self) -> None:
        values = [
            Stage("a", 1),
            Stage("a", 2),
            Stage("a", 2, np.float32(0.1)),
            Stage("a", 2, np.float32(0.2)),
            np.ones(2),
            HeldOut(),
            HeldOut(0.2),
            torch.zeros(2),
            torch.ones(2),
            torch.zeros(2, dtype=torch.float64),
            None,
            0,
            "0",
            [1, 2],
            {"a": 1},
            print,
        ]
        texts = [json.dumps(record.describe(value), sort_keys=True) for value in values]
        assert len(set(texts)) == len(texts)
        held_out = {"class": "HeldOut", "fraction": 0.2, "patience": 0.2, "seed": 0}
        assert record.describe(HeldOut(0.2)) == held_out

    def test_tells_denoisers_of_ones_own_apart(self) -> None:
        @dataclass(frozen=True)
        class Slotted:
            __slots__ = ("strength",)
            strength: float

        class Own:
            def __init__(self, strength: float) -> None:
                self.strength = strength

            def denoise(self, image: Any, sigma: float) -> Any:
                return image

        torch.manual_seed(0)
        convolution = torch.nn.Conv2d(1, 1, 3)
        values = [
            partial(max, 1),
            partial(max, 2),
            partial(min, 1),
            partial(max, key=len),
            Slotted(0.1),
            Slotted(0.2),
            Own(0.1).denoise,
            Own(0.2).denoise,
            convolution,
            torch.nn.Conv2d(1, 1, 3),
            torch.nn.Conv2d(1, 1, 3, padding=1),
            torch.nn.Sequential(convolution, torch.nn.ReLU()),
            torch.nn.Sequential(convolution, torch.nn.Tanh()),
            torch.nn.BatchNorm2d(1),
        ]
        texts = [json.dumps(record.describe(value), sort_keys=True) for value in values]
        assert len(set(texts)) == len(texts)
        again = copy.deepcopy(convolution)
        assert record.describe(again) == record.describe(convolution)
        with torch.no_grad():
            again.weight[0, 0, 0, 0] += 1
        assert record.describe(again) != record.describe(convolution)

    def test_objects_that_lead_back_to_themselves(self) -> None:
        class Experiment:
            def __init__(self, weight: float) -> None:
                self.weight, self.control = weight, self.step

            def step(self) -> None:
                pass

        first, again, other = (Experiment(weight) for weight in (1.0, 1.0, 2.0))
        assert record.describe(first.step) == record.describe(again.step)
        assert record.describe(first.step) != record.describe(other.step)

    def test_operators_are_told_apart_by_what_they_do(self) -> None:
        image = torch.zeros(1, 3, 16, 16)
        operators = [
            Identity(),
            Downsample(2),
            Downsample(2, "bicubic"),
            Blur(gaussian_kernel(1.0)),
            Blur(gaussian_kernel(1.1)),
            Compose(Blur(gaussian_kernel(1.0)), Downsample(2)),
        ]
        prints = [record._fingerprint(operator, image, image.device) for operator in operators]
        assert len(set(prints)) == len(prints)
        assert record._fingerprint(Downsample(2), image, image.device) == prints[1]

    def test_digest(self) -> None:
        x = torch.rand(3, 4)
        assert digest_of(x) == digest_of(x.clone()) == digest_of(x.T.contiguous().T)
        assert digest_of(x) != digest_of(x.reshape(4, 3))
        assert digest_of(torch.zeros(0)) != digest_of(torch.zeros(0, 1))


def test_no_warnings_in_ordinary_use(noisy_pair: Pair, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dipfast.denoise(noisy_pair[0], checkpoint=path, checkpoint_every=5)


@dataclass(frozen=True)
class Remembers(StopRule):
    """Put what a function returns of a state into the memory."""

    kept: Callable[[Any], dict[Any, Any]]

    def update(self, state: Any, memory: Any) -> Decision:
        memory.update(self.kept(state))
        return Decision(best=True)


@dataclass(frozen=True)
class Control:
    """Put a value into the memory of a stage."""

    value: Any

    def goal(self, view: Any, stage: Stage, memory: Any) -> Goal:
        memory["x"] = self.value
        return Goal(stage.tv_weight)


class TestMemory:
    @pytest.mark.parametrize(
        ("kept", "message"),
        [
            ({"x": [0.1]}, r"memory\['x'\] of the stop rule must be a tensor, .* got list"),
            ({"x": None}, "memory.* got NoneType"),
            ({"x": np.zeros(2)}, "memory.* got ndarray"),
            ({1: 2.0}, "names in the memory of the stop rule must be texts, got 1"),
        ],
    )
    def test_that_no_file_can_hold_is_refused_at_once(
        self, noisy_pair: Pair, path: Path, kept: dict[Any, Any], message: str
    ) -> None:
        seen: list[int] = []

        def keep(state: Any) -> dict[Any, Any]:
            seen.append(state.iteration)
            return kept

        with pytest.raises(InputTypeError, match=message):
            dipfast.denoise(noisy_pair[0], stop=Remembers(keep), checkpoint=path)
        assert seen == [1]

    def test_of_a_control_is_checked_as_well(self, noisy_pair: Pair) -> None:
        with pytest.raises(InputTypeError, match="of the control of stage 'a' must be a tensor"):
            dipfast.denoise(noisy_pair[0], method=[Stage("a", 2, control=Control([1]))])

    def test_of_numbers_of_numpy_and_one_tensor_twice_goes_on(
        self, noisy_pair: Pair, path: Path
    ) -> None:
        def keep(state: Any) -> dict[Any, Any]:
            image = state.image
            return {"n": np.float32(0.5), "b": np.bool_(True), "x": image, "y": image}

        # One tensor in the memories of the rule and of the control, too.
        shared = torch.zeros(3)
        rule = Remembers(lambda state: keep(state) | {"z": shared})
        options: dict[str, Any] = {
            "stop": rule,
            "method": [Stage("a", 6, control=Control(shared))],
            "checkpoint": path,
            "checkpoint_every": 2,
        }
        part = dipfast.denoise(noisy_pair[0], callback=_stop_at(3), **options)
        assert part.stop_iteration == 3
        result = dipfast.denoise(noisy_pair[0], resume=True, **options)
        del options["checkpoint"], options["checkpoint_every"]
        whole = dipfast.denoise(noisy_pair[0], **options)
        np.testing.assert_array_equal(result.image, whole.image)
