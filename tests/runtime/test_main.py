import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeattn.imaging import encode_png
from edgeattn.runtime import __main__ as command

main = command.main


@pytest.fixture
def paths(bundle: Path, image: Path) -> dict[str, Path]:
    video = image.with_name("a.mp4")
    video.write_bytes(b"never opened")
    return {"BUNDLE": bundle, "IMAGE": image, "FOLDER": image.parent, "VIDEO": video}


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    path.write_bytes(encode_png(np.full((8, 8, 3), (200, 0, 0), np.uint8)))
    return path


def test_verify(bundle: Path, backend: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(bundle)]) == 0
    assert "self-test: passed" in capsys.readouterr().out
    assert main(["verify", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["passed"] is True


def test_a_failed_self_test_is_1(bundle: Path, backend: Any, capsys: pytest.CaptureFixture[str]) -> None:
    backend.runner.gain = 2.0
    assert main(["verify", str(bundle)]) == 1
    assert "FAILED" in capsys.readouterr().out


def test_run(bundle: Path, backend: Any, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(bundle), "--source", str(image), "--out", str(tmp_path / "o.png")]) == 0
    assert capsys.readouterr().out.startswith("a.png: blue 100.0%")
    assert (tmp_path / "o.png").exists()
    assert main(["run", str(bundle), "--source", str(image), "--json", "--threads", "1"]) == 0
    values = json.loads(capsys.readouterr().out)
    assert (values["name"], values["labels"][0]) == ("a.png", "blue")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["verify", "missing.edgeattn"], 2, "cannot be read"),
        (["run", "BUNDLE", "--source", "missing.png"], 2, "There is no source"),
        (["run", "BUNDLE", "--source", "BUNDLE"], 2, "is not an image"),
        (["run", "BUNDLE", "--source", "IMAGE", "--out", "IMAGE"], 2, "would replace"),
        (["run", "BUNDLE", "--source", "IMAGE", "--threads", "0"], 2, "1 or more"),
        (["verify", "BUNDLE", "--key", "missing.pem"], 2, "is not signed"),
        (["build", "missing.edgeattn"], 2, "cannot be read"),
        (["build", "BUNDLE", "--key", "missing.pem"], 2, "is not signed"),
        (["build", "BUNDLE", "--threads", "0"], 2, "1 or more"),
        (["build", "BUNDLE"], 2, "there is no engine to build"),
        (["run", "BUNDLE", "--source", "IMAGE", "--out", "IMAGE/x.png"], 3, "cannot be written"),
        (["verify", "L" * 300], 2, "(File name too long)"),
        (["run", "BUNDLE", "--source", "L" * 300], 2, "cannot be read (File name too long); give an image"),
        (["run", "BUNDLE", "--source", "IMAGE", "--out", "L" * 300], 3, "cannot be written (File name too long)"),
        (["run", "BUNDLE", "--source", "IMAGE", "--out", "L" * 300 + ".png"], 3, "cannot be written (File name too"),
        (["run", "BUNDLE", "--source", "FOLDER", "--out", "L" * 300], 3, "cannot be written (File name too long)"),
        (["run", "BUNDLE", "--source", "VIDEO", "--out", "L" * 300 + ".mp4"], 3, "cannot be written (File name too"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_one_sentence_and_the_right_code(
    paths: dict[str, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, says: str
) -> None:
    filled = list(arguments)
    for name, path in paths.items():
        filled = [text.replace(name, str(path)) for text in filled]
    assert main(filled) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("edgeattn: ") and says in captured.err
    assert captured.err.count("\n") == 1


def test_an_output_that_takes_nothing(onnx_bundle: Path, image: Path) -> None:
    """As of `edgeattn run`: the disk below standard output is full."""
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "edgeattn.runtime", "run", str(onnx_bundle), "--source", str(image)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ended.returncode == 3
    assert ended.stderr == "edgeattn: the output cannot be read or written (No space left on device).\n"


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["run", "x.edgeattn"], ["verify"], ["build"], ["build", "x.edgeattn", "--dla", "one"]]
)
def test_wrong_usage_is_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2


def test_interrupted_is_130(bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "verify", interrupt)
    assert main(["verify", str(bundle)]) == 130
    assert capsys.readouterr().err == "edgeattn: interrupted.\n"


def test_a_reader_that_leaves(onnx_bundle: Path, image: Path) -> None:
    """`… | head -0`: no traceback, no complaint while closing."""
    run = [sys.executable, "-m", "edgeattn.runtime", "run", str(onnx_bundle), "--source", str(image)]
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        process.stdout.close()
        error = process.stderr.read()
    assert (process.returncode, error) == (0, b"")


def test_a_terminal_that_has_no_sign_for_a_name(onnx_bundle: Path, image: Path) -> None:
    run = [sys.executable, "-m", "edgeattn.runtime", "run", str(onnx_bundle), "--source"]
    source = image.rename(image.with_name("猫.png"))
    env = {**os.environ, "PYTHONIOENCODING": "latin-1"}
    done = subprocess.run([*run, str(source)], capture_output=True, text=True, check=False, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("?.png: ")


def test_a_corrupt_image_gives_one_line(onnx_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(50))
    run = [sys.executable, "-m", "edgeattn.runtime", "run", str(onnx_bundle), "--source", str(tmp_path / "x.jpg")]
    done = subprocess.run(run, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1 and "x.jpg is not an image" in done.stderr
