"""Orders: fields of the form that are right and wrong, and the command that does the same."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dipfast.apps.cli.options import Request
from dipfast.apps.cli.usage import parse
from dipfast.apps.studio import markup
from dipfast.apps.studio.orders import TASK_WORDS, Order, read_order
from dipfast.apps.studio.pictures import Picture
from dipfast.apps.studio.runs import Registry
from dipfast.errors import InputError
from dipfast.settings.names import TASKS

NEEDED = {"denoise": {}, "super_resolve": {"factor": "2"}, "restore": {"blur": "1.2"}}


def test_every_task_is_on_the_page() -> None:
    assert list(TASK_WORDS) == list(TASKS)


def test_defaults(picture: Picture) -> None:
    order = read_order({"task": "denoise"}, picture)
    assert (order.task, order.options, order.mask) == ("denoise", {"quality": "balanced"}, None)


def test_fields_of_other_tasks_are_ignored(picture: Picture) -> None:
    order = read_order({"task": "denoise", "factor": "99", "blur": "x", "mask": "7"}, picture)
    assert (order.factor, order.blur) == (1, 0)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "choose what to do"),
        ({"task": "remove"}, "choose what to do"),
        ({"task": "denoise", "quality": "good"}, "How much work must be one of fast"),
        ({"task": "denoise", "sigma": "-3"}, "^Noise must be .*, got -3"),
        ({"task": "denoise", "sigma": "2,5"}, "point in the place of the comma"),
        ({"task": "denoise", "sigma": "nan"}, "Noise must be finite"),
        ({"task": "denoise", "max_iterations": "1.5"}, "whole number"),
        ({"task": "denoise", "max_iterations": "0"}, "^Iterations must be"),
        ({"task": "super_resolve", "factor": "5"}, "factor must be one of 2, 3, 4, 8, got '5'"),
        ({"task": "restore"}, "the blur must be told"),
        ({"task": "restore", "blur": "100"}, "at most 7.75 pixels, got 100"),
        ({"task": "inpaint"}, "paint over them, or load a mask"),
        ({"task": "inpaint", "mask": "1"}, "paint over them, or load a mask"),
        ({"task": "inpaint", "mask_kind": "transparent"}, "all pixels of scan.png are opaque"),
    ],
)
def test_wrong_fields_are_told(picture: Picture, fields: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_order(fields, picture)


@pytest.mark.parametrize("task", ["denoise", "super_resolve", "restore"])
def test_command_asks_for_the_same(picture: Picture, task: str) -> None:
    fields = {"task": task, "quality": "fast", "sigma": "12.5", "max_iterations": "30"}
    order = read_order({**fields, **NEEDED[task]}, picture)
    words = shlex.split(order.command(picture))
    request = parse(words[1:])
    assert isinstance(request, Request)
    assert request.task == task
    assert {**order.options, "factor": order.factor} == {"factor": 1, **request.options}
    assert (str(request.own.image), str(request.own.output)) == (
        "scan.png",
        f"scan-{TASK_WORDS[order.task].suffix}.png",
    )


def test_noise_may_be_found_where_the_default_is_none(picture: Picture) -> None:
    order = read_order({"task": "super_resolve", "factor": "2", "sigma": "Auto"}, picture)
    assert order.options["sigma"] == "auto"
    assert order.describe() == "Enlarge, 2 times, balanced, noise auto"
    request = parse(shlex.split(order.command(picture))[1:])
    assert isinstance(request, Request)
    assert request.options["sigma"] == "auto"


def test_what_an_empty_field_of_the_noise_means_is_said_for_each_task(picture: Picture) -> None:
    page = markup.fields(picture)
    found = re.findall(r'<span class="of" data-of="(\w+)">Empty, it is found', page)
    none = re.findall(r'<span class="of" data-of="(\w+)">Empty, there is none', page)
    assert (found, none) == (["denoise", "restore"], ["inpaint", "super_resolve"])
    assert 'placeholder="found in the picture"' not in page


def test_command_of_a_painted_mask_names_the_file_that_is_downloaded(picture: Picture) -> None:
    mask = np.zeros((32, 40), bool)
    mask[:4] = True
    number = picture.add_mask(mask)
    order = read_order({"task": "inpaint", "mask": str(number)}, picture)
    request = parse(shlex.split(order.command(picture))[1:])
    assert isinstance(request, Request)
    assert request.own.mask == order.mask_name(picture) == "scan-mask.png"


def test_hostile_names_stay_names_of_files(registry: Registry, tmp_path: Path) -> None:
    path = tmp_path / "--quiet; rm.png"
    Image.fromarray(np.zeros((16, 16), np.uint8)).save(path)
    picture = registry.open_copy(path)
    request = parse(shlex.split(read_order({"task": "denoise"}, picture).command(picture))[1:])
    assert isinstance(request, Request)
    assert str(request.own.image) == "./--quiet; rm.png"


def test_artefacts_of_jpeg(registry: Registry, noisy: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "photo.jpg"
    Image.fromarray(noisy).save(path, quality=30)
    picture = registry.open_copy(path)
    order = read_order({"task": "denoise", "jpeg": "yes"}, picture)
    assert order.takes_artefacts
    assert "--jpeg yes" in order.command(picture)
    assert "--jpeg no" in read_order({"task": "denoise"}, picture).command(picture)
    with pytest.raises(InputError, match="without Noise and Iterations"):
        read_order({"task": "denoise", "jpeg": "yes", "sigma": "3"}, picture)


def test_words_of_an_order() -> None:
    order = Order("super_resolve", {"quality": "best", "sigma": 3.0}, factor=4)
    assert order.describe() == "Enlarge, 4 times, best, noise 3"
