"""Every way a deployment can be refused: one clear sentence, the contract's exit code, nothing lost."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import sys

import pytest
import yaml

FOLDERS = {"format": "imagefolder", "path": "photos", "calibration": 4}


def a_sentence(ended, *parts):
    """What was wrong is one sentence or two, in plain words, and names what it should."""
    said = ended.error
    assert len(said) < 700 and said.rstrip(".") != said, said
    for part in parts:
        assert part in said, said
    return said


FIELDS = {
    "top": (["--set", "modle=1"], "unknown field 'modle'; did you mean 'model'"),
    "nested": (["--set", "train.epoch=1"], "unknown field 'epoch' under 'train'; did you mean 'epochs'"),
    "type": (["--set", "train.epochs=many"], "train.epochs"),
    "range": (["--set", "train.epochs=0"], "train.epochs"),
    "not a number": (["--set", "train.learning_rate=.nan"], "train.learning_rate"),
    "below a value": (["--set", "task.name=1"], "'task' is a single value"),
    "no value": (["--set", "train.epochs"], "--set takes key=value"),
    "not YAML": (["--set", "train.epochs=[1"], "not valid YAML"),
    "task": (["--set", "task=clasify"], "classify"),
    "model": (["--set", "model.name=atention_cnn"], "attention_cnn, "),
    "model's field": (["--set", "model.stagse=[8]"], "unknown field 'stagse'; did you mean 'stages'"),
    "model's value": (["--set", "model.heads=5"], "16 channels and 5 heads"),
    "model's type": (["--set", "model.blocks=few"], "blocks"),
    "format": (["--set", "data.format=scene"], "scenes"),
    "data's field": (["--set", "data.sise=32"], "unknown field 'sise'; did you mean 'size'"),
    "data's type": (["--set", "data.train=many"], "train"),
    "data's value": (["--set", "data.size=31"], "32 to 1024, got 31"),
    "too few to calibrate": (["--set", "data.calibration=2"], "INT8 needs at least 3 calibration images"),
    "metric": (["--set", "metric=top5"], "The task classify has no metric 'top5'; known: top1"),
    "tiles of what is no map": (["--set", "input.fit=tile"], "input.fit tile cuts frames into tiles and joins maps"),
    "weights": (["--set", "weights=nowhere"], "The weights in nowhere are incomplete (No such file or directory"),
    "own model": (["--set", "model.name=no_such_package.net"], "There is no model 'no_such_package.net'"),
    "INT8 setting": (["--set", "quantize.candidates=[minmix]"], "minmix"),
    "variant": (["--set", "variants=[int4]"], "variants"),
    "name": (["--set", "name=a/b"], "a/b"),
    "seed": (["--seed", "99999999999"], "seed"),
    "more epochs than anyone has": (["--set", "train.epochs=99999999999"], "train.epochs"),
    "a larger batch than anyone has": (["--set", "train.batch_size=99999999999"], "train.batch_size"),
    "more threads than anyone has": (["--set", "measure.threads=99999999999"], "measure.threads"),
    "leave_out": (["--set", "leave_out={openvno: [fp16]}"], "leave_out"),
    "a list in itself": (["--set", "variants=&a [*a]"], "the field 'variants.0' holds itself"),
    "brackets in brackets": (["--set", "variants=" + "[" * 5000 + "]" * 5000], "not valid YAML"),
    "target": (["--target", "toaster"], "There is no target 'toaster'; known: cpu"),
}


@pytest.mark.parametrize(("arguments", "said"), FIELDS.values(), ids=FIELDS)
def test_a_wrong_field_is_named_before_anything_is_written(tool, within, arguments, said):
    ended = within("deploy", "tiny.yaml", "--store", "store", "--out", "out", *arguments)
    assert ended.code == 2, ended.err
    a_sentence(ended, said)
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()
    assert ended.out == ""


RECIPES = {
    "no such name": ("no_such", None, "There is no recipe 'no_such' in pipelines/"),
    "no such file": ("no_such.yaml", None, "no_such.yaml cannot be read (No such file or directory)"),
    "a folder": ("photos.yaml", "", "photos.yaml cannot be read (Is a directory)"),
    "not YAML": ("bad.yaml", "task: [", "bad.yaml is not valid YAML"),
    "not text": ("bad.yaml", b"\xff\xfe\x00", "bad.yaml is not valid YAML"),
    "empty": ("bad.yaml", "\n", "must hold fields such as 'task:'"),
    "a list": ("bad.yaml", "- 1\n", "must hold fields such as 'task:'"),
    "fields missing": ("bad.yaml", "task: classify\n", "'model' is missing"),
}


@pytest.mark.parametrize(("name", "text", "said"), RECIPES.values(), ids=RECIPES)
def test_a_recipe_that_cannot_be_read(tool, within, name, text, said):
    path = tool.folder / name
    if text == "":
        path.mkdir()
    elif text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    ended = within("deploy", name, "--store", "store", "--out", "out")
    assert ended.code == 2
    a_sentence(ended, said)
    assert not (tool.folder / "store").exists()


def no_folder(photos):
    shutil.rmtree(photos)
    return ["There is no ", "photos", "EDGEATTN_DATA"]


def empty_class(photos):
    (photos / "dog").mkdir()
    return ["dog", "photos"]


def one_image(photos):
    for path in sorted((photos / "cat").iterdir())[1:]:
        path.unlink()
    return ["The class 'cat' has 1 image(s)", "add images"]


def no_images(photos):
    for path in photos.rglob("*.png"):
        path.rename(path.with_suffix(".txt"))
    return ["There are no images in", ".png"]


def one_class(photos):
    shutil.rmtree(photos / "cat")
    return ["bird"]


def corrupt(photos):
    (photos / "cat/03.png").write_bytes((photos / "cat/03.png").read_bytes()[:60])
    return ["photos/cat/03.png"]


def empty_file(photos):
    (photos / "bird/00.png").write_bytes(b"")
    return ["photos/bird/00.png"]


def twice(photos):
    shutil.copy(photos / "cat/00.png", photos / "cat/11.png")
    return ["photos/cat/11.png", "cat/00.png", "same image"]


def twice_under_another_form(photos):
    """Other bytes, equal pixels: only decoding tells."""
    import cv2

    cv2.imwrite(str(photos / "bird/11.bmp"), cv2.imread(str(photos / "bird/00.png")))
    (photos / "bird/11.png").unlink()
    return ["1 image(s) are in both the ", "same pixels"]


DATA = [
    no_folder,
    empty_class,
    one_image,
    no_images,
    one_class,
    corrupt,
    empty_file,
    twice,
    twice_under_another_form,
]


@pytest.mark.parametrize("spoil", DATA, ids=lambda spoil: spoil.__name__)
def test_data_that_is_wrong(tool, within, photos, spoil):
    recipe = {**yaml.safe_load((tool.folder / "tiny.yaml").read_text()), "data": FOLDERS}
    (tool.folder / "photos.yaml").write_text(yaml.safe_dump(recipe))
    parts = spoil(photos)
    ended = within("deploy", "photos.yaml", "--store", "store", "--out", "out")
    assert ended.code == 2, ended.err
    a_sentence(ended, *parts)
    assert list((tool.folder / "store").glob("artifacts/*/*")) == []
    assert not (tool.folder / "out").exists()


@pytest.mark.parametrize("url", ["http://[bad/x.tar", "http://bü..cher/x.tar"])
def test_a_download_from_what_is_no_address(tool, within, url):
    data = {"format": "imagefolder", "path": "x.tar", "url": url, "sha256": "0" * 64}
    recipe = {**yaml.safe_load((tool.folder / "tiny.yaml").read_text()), "data": data}
    (tool.folder / "far.yaml").write_text(yaml.safe_dump(recipe))
    ended = within("deploy", "far.yaml", "--store", "store", "--out", "out")
    assert ended.code == 2, ended.err
    a_sentence(ended, url, "is not an address that can be downloaded")
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()


def test_a_refusal_in_a_process_of_its_own(tool):
    """The other tests of this kind call `main` in this process."""
    ended = tool("deploy", "tiny.yaml", "--store", "store", "--out", "out", "--set", "modle=1")
    assert (ended.code, ended.out) == (2, "")
    a_sentence(ended, "unknown field 'modle'; did you mean 'model'")


def test_weights_that_are_lost_in_training(tool):
    ended = tool("train", "tiny.yaml", "--store", "store", "--out", "out", "--set", "train.learning_rate=1e30")
    """The training ran and failed: a verdict with its report, not a wrong input."""
    assert ended.code == 1, ended.err
    assert "Traceback" not in ended.err and "NOT PASSED" in ended.out
    values = json.loads((tool.folder / "out/report.json").read_text())
    (row,) = values["rows"]
    assert (row["stage"], row["status"], row["artifact"]) == ("train", "failed", None)
    assert "epoch 1" in row["reason"] and "lower the learning rate" in row["reason"]
    assert values["verdict"] == {"passed": False, "reasons": [f"train/fp32: {row['reason']}"]}
    assert (values["training"], values["per_class"], values["examples"]) == (None, None, [])
    for name in ("report.html", "report.md", "junit.xml"):
        assert "lower the learning rate" in (tool.folder / "out" / name).read_text(), name
    assert list((tool.folder / "store").glob("artifacts/train/*")) == []


def test_a_network_that_cannot_be_trained(tool):
    """Strides shrink 32 pixels to one; with a single image, batch normalisation has nothing to average over."""
    changes = ["model={name: se_resnet, depth: 18}", "train.batch_size=1"]
    overrides = [part for change in changes for part in ("--set", change)]
    ended = tool("train", "tiny.yaml", "--store", "store", "--out", "out", *overrides)
    assert ended.code == 2, ended.err
    a_sentence(ended, "The network of tiny cannot be trained (Expected more than 1 value", "train.batch_size")
    assert list((tool.folder / "store").glob("artifacts/train/*")) == []
    assert not (tool.folder / "out").exists()


OWN_NETWORK = """
from dataclasses import dataclass
from torch import nn

TASK = "classify"
OUTPUTS = ("logits",)

@dataclass(frozen=True)
class Settings:
    width: int = 4

class Network(nn.Module):
    def __init__(self, settings, classes):
        super().__init__()
        self.head = nn.Linear(3, classes)

    def forward(self, x):
        return self.head(x.mean(dim=(2, 3)))

    def loss(self, logits, targets, label_smoothing):
        return nn.functional.cross_entropy(logits, targets)
"""
MISTAKES = {
    "a colon": (":\n    width", "\n    width", "The module mistaken.net is not Python (expected ':' (net.py, line 9))"),
    "a name": ("from torch import nn", "", "NameError: name 'nn' is not defined, net.py line 12"),
    "a package": ("from torch", "from tortch", "No module named 'tortch', net.py line 3"),
    "an attribute": (
        "self.head(x",
        "self.hed(x",
        "AttributeError: 'Network' object has no attribute 'hed', net.py line 18",
    ),
    "an argument": (
        "settings, classes)",
        "settings)",
        "Network.__init__() takes 2 positional arguments but 3 were given",
    ),
    "no loss": ("def loss", "def cost", "cannot be trained: its Network has neither loss nor training_loss"),
}


@pytest.mark.parametrize(("right", "wrong", "said"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_in_a_network_of_ones_own(tool, within, right, wrong, said, monkeypatch):
    from edgeattn import provenance

    (tool.folder / "mistaken").mkdir()
    (tool.folder / "mistaken/net.py").write_text(OWN_NETWORK.replace(right, wrong))
    # In this process nothing of another test's package may be remembered.
    for cached in (provenance._source, provenance._module_hash, provenance._folders):
        cached.cache_clear()
    for name in ("mistaken", "mistaken.net"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setattr(sys, "path", list(sys.path))
    ended = within("deploy", "tiny.yaml", "--store", "store", "--out", "out", "--set", "model={name: mistaken.net}")
    assert ended.code == 2, ended.err
    a_sentence(ended, "mistaken.net", said)
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()


def test_a_mistake_in_a_loss_of_ones_own(tool):
    (tool.folder / "mistaken").mkdir()
    (tool.folder / "mistaken/net.py").write_text(OWN_NETWORK.replace("functional.cross", "functionals.cross"))
    ended = tool("train", "tiny.yaml", "--store", "store", "--out", "out", "--set", "model={name: mistaken.net}")
    assert ended.code == 2, ended.err
    a_sentence(
        ended,
        "The network of tiny cannot be trained (AttributeError: module 'torch.nn' has no attribute 'functionals'",
        "change the model",
    )
    assert not (tool.folder / "out").exists()


def test_nan_in_stored_weights(tool, store, listed, state):
    """Altered together with its hash, so that only looking at the values can tell."""
    from safetensors.numpy import load_file, save_file

    folder = listed(store)["train/fp32"]
    weights = load_file(folder / "weights.safetensors")
    name = next(name for name in weights if name.endswith("head.weight"))
    weights[name] = weights[name] * float("nan")
    save_file(weights, folder / "weights.safetensors")
    manifest = json.loads((folder / "manifest.json").read_text())
    data = (folder / "weights.safetensors").read_bytes()
    manifest["files"]["weights.safetensors"] = {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    before = state(store / "artifacts")
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out")
    assert ended.code == 2, ended.err
    a_sentence(ended, "head.weight", "NaN", str(folder))
    assert state(store / "artifacts") == before
    assert not (tool.folder / "out").exists()


def test_an_engine_that_cannot_be_compiled(tool, store, listed):
    """OpenVINO's process ends with a code of its own for INT8 alone: the other engines go on, and one of them ships."""
    shutil.rmtree(listed(store)["compile/int8"])
    launch = """
from edgeattn.backends import openvino
openvino._CHILD = "import sys; 'int8' in sys.argv and sys.exit('It crashed'); " + openvino._CHILD
from edgeattn.cli import main
main()
"""
    ended = tool("deploy", "tiny.yaml", "--store", store, "--out", "out", launch=launch)
    assert ended.code == 0, ended.err
    assert "Traceback" not in ended.err
    values = json.loads((tool.folder / "out/report.json").read_text())
    rows = {f"{row['stage']}/{row['variant']}": row for row in values["rows"]}
    assert rows["compile/int8"]["status"] == "failed" and "It crashed" in rows["compile/int8"]["reason"]
    assert values["selected"]["variant"] in ("fp32", "bf16")
    assert f"bundle/{values['selected']['variant']}" in rows


@pytest.mark.parametrize("option", ["--out", "--store"])
@pytest.mark.parametrize("place", ["a_file/below", "/proc/edgeattn", "/dev/null", "x" * 300])
def test_a_folder_that_cannot_be_written(tool, within, option, place):
    (tool.folder / "a_file").write_text("mine")
    ended = within("deploy", "tiny.yaml", "--store", "store", "--out", "out", option, place)
    assert ended.code == 3, ended.err
    a_sentence(ended, place, "choose a writable folder with --store or --out")
    assert (tool.folder / "a_file").read_text() == "mine"
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()


LIBRARIES = {
    "the target's": ("openvino", "deploy", 'pip install "edgeattn[openvino]"'),
    "for training": ("torch", "train", 'pip install "edgeattn[train]"'),
    "for quantizing": ("nncf", "deploy", 'pip install "edgeattn[train]"'),
}
# Stands for an environment without the libraries: nothing finds them, and importing one fails.
HIDE = """
import sys
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {names!r}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.split(".")[0] in {names!r} else found(name, package)
)
sys.meta_path.insert(0, Hidden())
"""
START = HIDE + "from edgeattn.cli import main\nmain()\n"


@pytest.mark.parametrize(("library", "command", "said"), LIBRARIES.values(), ids=LIBRARIES)
def test_a_library_that_is_missing(tool, library, command, said):
    ended = tool(command, "tiny.yaml", "--store", "store", "--out", "out", launch=START.format(names=[library]))
    assert ended.code == 3, ended.err
    a_sentence(ended, said)
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()


def test_the_command_where_only_the_runtime_is_installed(tool):
    """As on a board, into whose environment the package was put without its extras."""
    names = ["click", "rich", "yaml", "pydantic"]
    launch = HIDE.format(names=names) + "from edgeattn.start import main\nmain()\n"
    ended = tool("deploy", "tiny.yaml", launch=launch)
    assert ended.code == 3 and ended.err.count("\n") == 1
    assert "needs click, pydantic, yaml, rich, which a device does without" in ended.err
    assert "python -m edgeattn.runtime --help" in ended.err


@pytest.mark.slow
def test_a_machine_that_only_trains_needs_no_library_of_the_later_stages(tool):
    """Hidden in every process that it starts too, as the timing ones."""
    hidden = tool.folder / "hidden"
    hidden.mkdir()
    later = ["onnx", "onnxscript", "onnxruntime", "nncf", "openvino", "tensorrt"]
    (hidden / "sitecustomize.py").write_text(HIDE.format(names=later))
    small = ("--set", "train.epochs=1", "--set", "data.train=64", "--set", "data.evaluation=20")
    ended = tool("train", "tiny.yaml", *small, "--store", "store", "--out", "out", FIRST=str(hidden))
    assert ended.code == 0, ended.err
    report = json.loads((tool.folder / "out/report.json").read_text())
    (row,) = report["rows"]
    assert (row["stage"], row["status"], row["metric"]["n"]) == ("train", "ok", 20)
    assert row["latency"]["p50_ms"] > 0
    assert (tool.folder / row["artifact"]["path"] / "weights.safetensors").is_file()
    refused = tool("export", "tiny.yaml", *small, "--store", "store", "--out", "out", FIRST=str(hidden))
    assert refused.code == 3 and "onnx, onnxscript, onnxruntime cannot be found" in refused.error


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("abacus", "There is no backend 'abacus'; known backends: "),
        ("pytorch", "'pytorch' runs models but compiles no"),
    ],
)
def test_a_target_whose_backend_cannot_compile(tool, backend, said):
    (tool.folder / "targets").mkdir()
    (tool.folder / "targets/odd.yaml").write_text(f"title: odd\nbackend: {backend}\nprecisions: [fp32]\n")
    launch = "import pathlib, edgeattn.cli as c, edgeattn.recipe as r; r.TARGETS = pathlib.Path('targets'); c.main()"
    ended = tool("deploy", "tiny.yaml", "--target", "odd", "--store", "store", "--out", "out", launch=launch)
    assert ended.code == 2, ended.err
    a_sentence(ended, said)
    assert not (tool.folder / "store").exists() and not (tool.folder / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bogus"], "No such command 'bogus'"),
        (["deploy", "tiny.yaml", "--bogus"], "No such option '--bogus'"),
        (["deploy"], "Missing argument 'RECIPE'"),
        (["deploy", "tiny.yaml", "--seed", "x"], "'x' is not a valid integer"),
        (["deploy", "tiny.yaml", "--seed", "-1"], "-1"),
        (["run", "some.edgeattn"], "Missing option '--source'"),
        (["calibration", "tiny.yaml"], "Missing option '--out'"),
    ],
)
def test_wrong_usage(within, arguments, said):
    ended = within(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err and "Traceback" not in ended.err
    assert re.search(r"^Usage: edgeattn", ended.err), ended.err


def test_output_that_cannot_be_written(tool):
    """`edgeattn targets > /dev/full`: the disk below standard output is full."""
    launch = "import os; os.dup2(os.open('/dev/full', os.O_WRONLY), 1)\nfrom edgeattn.cli import main; main()"
    ended = tool("targets", "--json", launch=launch)
    assert ended.code == 3, ended.err
    a_sentence(ended, "No space left on device")


def test_a_reader_that_has_seen_enough(tool):
    """`edgeattn targets | head -0`: a closed pipe is neither an error nor a verdict."""
    launch = "import os; r, w = os.pipe(); os.close(r); os.dup2(w, 1)\nfrom edgeattn.cli import main; main()"
    ended = tool("targets", "--json", launch=launch)
    assert (ended.code, ended.err) == (0, "")
