"""One connection with another program in the place of `ssh`: what is sent, and what is not believed."""

from __future__ import annotations

import io
import json
import os
import sys
import time
from pathlib import Path

import pytest

from edgeattn.artifact import sha256_bytes
from edgeattn.bundle.archive import write_zip
from edgeattn.errors import ConnectionFailed, EdgeattnError, MachineError, MissingLibrary, ModelError
from edgeattn.remote import bootstrap
from edgeattn.remote import ssh as ssh_command
from edgeattn.remote.conversation import Request, converse
from edgeattn.remote.host import Host
from edgeattn.remote.line import Line
from edgeattn.remote.package import pack

RESULT = {"values": {}, "files": {}, "cached": False}
REQUEST = Request("describe", None, {"backend": "openvino"}, b"package", [])


@pytest.fixture
def ssh(tmp_path, monkeypatch):
    """`ssh(program)` puts a Python program in its place, whose words the far side's are."""

    def place(program: str) -> None:
        (tmp_path / "bin").mkdir(exist_ok=True)
        path = tmp_path / "bin/ssh"
        path.write_text(f"#!{sys.executable}\n{program}")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")

    return place


def tells(*records, code: int = 0, raw: str = "b''") -> str:
    """A far side that says these records whatever it is asked."""
    lines = "".join("\x1e" + json.dumps(record) + "\n" for record in records)
    return (
        "import sys\n"
        f"sys.stdout.buffer.write({lines!r}.encode()); sys.stdout.buffer.write({raw}); sys.stdout.flush()\n"
        f"sys.exit({code})\n"
    )


def listen(into=None, progress=lambda done, total, text: None):
    return converse(Host("box"), REQUEST, into, progress)


def test_progress_goes_to_one_listener_without_signs_that_steer_a_terminal(ssh):
    heard = []
    ssh(tells({"hello": {}}, {"progress": [1, 3, "round\x1b[2J 1"]}, {"result": RESULT | {"values": {"a": 1}}}))
    result = listen(progress=lambda *told: heard.append(told))
    assert result.values == {"a": 1} and heard == [(1, 3, "round [2J 1, on box")]


def test_an_error_keeps_its_class(ssh):
    ssh(tells({"hello": {}}, {"error": {"kind": "ModelError", "message": "it is wrong."}}))
    with pytest.raises(ModelError, match=r"^On box: it is wrong\.$"):
        listen()


@pytest.mark.parametrize("kind", ["Nonsense", "reason", "annotations", "Path"])
def test_a_class_that_is_no_error_of_ours(ssh, kind):
    ssh(tells({"error": {"kind": kind, "message": "x"}}))
    with pytest.raises(EdgeattnError, match=r"^On box: x$"):
        listen()


def test_no_engine_says_its_sentence_once(ssh):
    ssh(tells({"error": {"kind": "NoEngine", "message": "There is no engine for this machine: old."}}))
    with pytest.raises(ModelError, match=r"^On box: There is no engine for this machine: old\.$"):
        listen()


FILE = {"name": "a", "sha256": sha256_bytes(b"x"), "size": 1}


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (["result"], "a record that is no object"),
        (5, "a record that is no object"),
        ({"dance": 1}, "a record of no known kind"),
        ({"need": 5}, "'need' without what belongs to it"),
        ({"need": ["../x"]}, "a hash that is none"),
        ({"need": [7]}, "'need' without what belongs to it"),
        ({"need": ["0" * 64]}, "a request for a file that nobody offered (000000000000)"),
        ({"progress": [1]}, "'progress' without what belongs to it"),
        ({"progress": [1, 2, 3]}, "'progress' without what belongs to it"),
        ({"progress": ["a", 2, "x"]}, "'progress' without what belongs to it"),
        ({"progress": [True, 2, "x"]}, "'progress' without what belongs to it"),
        ({"progress": {}}, "'progress' without what belongs to it"),
        ({"error": {"kind": "ModelError"}}, "'error' without what belongs to it"),
        ({"error": {"kind": ["ModelError"], "message": "x"}}, "'error' without what belongs to it"),
        ({"error": "x"}, "'error' without what belongs to it"),
        ({"result": {}}, "'result' without what belongs to it"),
        ({"result": RESULT | {"values": 5}}, "'result' without what belongs to it"),
        ({"result": RESULT | {"files": {"a": 1}}}, "'result' without what belongs to it"),
        ({"result": RESULT | {"files": {"a": FILE, "a/b": FILE}}}, "a file name that no step gives"),
        ({"result": RESULT | {"files": {"a": FILE}}}, "a result without its files"),
        ({"file": FILE | {"size": "x"}}, "'file' without what belongs to it"),
        ({"file": FILE | {"size": -1}}, "a size that is none"),
        ({"file": FILE | {"name": 3}}, "'file' without what belongs to it"),
        ({"file": None}, "'file' without what belongs to it"),
    ],
)
def test_a_far_side_that_lies(ssh, tmp_path, record, words):
    ssh(tells({"hello": {}}, record))
    with pytest.raises(ConnectionFailed) as case:
        listen(tmp_path / "into")
    assert str(case.value).startswith(f"box sends {words}; it is not to be trusted")


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "\x00", ""])
def test_what_is_no_record_at_all(ssh, text):
    ssh(f"import os; os.write(1, b'\\x1e' + {text!r}.encode() + b'\\n')")
    with pytest.raises(ConnectionFailed, match="box sends a record that is no JSON; it is not to be trusted"):
        listen()


def test_a_file_that_a_question_cannot_have(ssh):
    ssh(tells({"file": FILE}, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match="box sends a file where none was asked for"):
        listen()


@pytest.mark.parametrize("name", ["../engine.blob", "/etc/passwd", "a/../../b"])
def test_a_name_that_leaves_its_folder_is_refused(ssh, tmp_path, name):
    entry = {"name": name, "sha256": sha256_bytes(b"x"), "size": 1}
    ssh(tells({"file": entry}, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match="a file name that no step gives"):
        listen(tmp_path / "into")
    ssh(tells({"result": RESULT | {"files": {name: entry}}}))
    with pytest.raises(ConnectionFailed, match="a file name that no step gives"):
        listen(tmp_path / "into")


def test_a_hash_that_is_a_path_is_refused(ssh, tmp_path):
    ssh(tells({"file": {"name": "a", "sha256": "../../a", "size": 1}}, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match="a hash that is none; it is not to be trusted"):
        listen(tmp_path / "into")
    assert not (tmp_path / "a").exists()


def test_a_file_that_is_another_is_not_kept(ssh, tmp_path):
    ssh(tells({"file": {"name": "a", "sha256": sha256_bytes(b"x"), "size": 1}}, raw="b'y'"))
    with pytest.raises(ConnectionFailed, match="'a' arrived from box other than it was sent"):
        listen(tmp_path / "into")
    assert [path.name for path in (tmp_path / "into").iterdir() if not path.name.startswith(".")] == []


def test_a_file_that_is_cut_off(ssh, tmp_path):
    ssh(tells({"hello": {}}, {"file": {"name": "a", "sha256": sha256_bytes(b"xy"), "size": 2}}, code=255, raw="b'x'"))
    with pytest.raises(ConnectionFailed, match=r"was lost, .* while results were fetched"):
        listen(tmp_path / "into")


def test_a_record_that_is_cut_off(ssh):
    ssh('import os; os.write(1, b\'\\x1e{"hello": {}}\\n\\x1e{"resu\'); raise SystemExit(255)')
    with pytest.raises(ConnectionFailed, match="while it looked for what is there already"):
        listen()


def test_the_far_side_itself_in_its_place(ssh, tmp_path, monkeypatch):
    """Without sshd: the command that it would be given, run by a shell here."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ssh("import os, sys\nprint('welcome', flush=True)\nos.execvp('sh', ['sh', '-c', sys.argv[-1]])")
    request = Request("describe", None, {"backend": "openvino"}, pack("edgeattn.tasks.classify"), [])
    values = converse(Host("box", (), sys.executable), request, None, lambda *told: None).values
    assert values["precisions"] and values["identity"]["cores"] >= 1
    assert (tmp_path / ".cache/edgeattn/remote/packages").is_dir()


def test_nothing_can_be_asked_on_the_terminal(ssh):
    """A session of its own has none; the ssh to a jump host would ask there, whatever the other was told."""
    ssh("import os, sys\nsys.exit(f'mine {os.getsid(0) == os.getpid()}')")
    with pytest.raises(ConnectionFailed, match=r"\(mine True\)"):
        listen()


def is_running(pid):
    """Neither gone nor a zombie that nobody has asked about."""
    try:
        return ") Z " not in (Path("/proc") / pid / "stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_interrupt_ends_what_hangs(ssh, tmp_path):
    """Ctrl-C reaches this process alone, and a connection that is stalled takes nothing more."""
    (tmp_path / "into").mkdir()
    ssh(
        "import os, subprocess, time\n"
        f"child = subprocess.Popen(['sleep', '100']); open({str(tmp_path / 'pids')!r}, 'w').write("
        "f'{os.getpid()} {child.pid}')\n"
        'os.write(1, b\'\\x1e{"progress": [0, 1, "x"]}\\n\')\n'
        "time.sleep(100)"
    )

    def interrupted(*told):
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        listen(progress=interrupted)
    assert time.monotonic() - started < 5
    left = (tmp_path / "pids").read_text().split()
    while left and time.monotonic() - started < 10:  # a busy machine takes its time to end them
        left = [pid for pid in left if is_running(pid)]
    assert not left


BOOTSTRAP = Path(bootstrap.__file__)
HERE = "import os, sys\nos.execvp('sh', ['sh', '-c', sys.argv[-1]])"


def far(serve: str) -> bytes:
    """A package whose far side is this."""
    archive = io.BytesIO()
    texts = {"edgeattn/__init__.py": "", "edgeattn/remote/__init__.py": "", "edgeattn/remote/far.py": serve}
    write_zip(archive, [(name, text.encode()) for name, text in texts.items()])
    return archive.getvalue()


@pytest.fixture
def stand_in(ssh, tmp_path, monkeypatch):
    """`stand_in(serve, **constants)`: this machine as the far side, with another end of the program."""
    monkeypatch.setenv("HOME", str(tmp_path))
    ssh(HERE)

    def run(serve: str, needed=(), values=REQUEST.values, **constants):
        text = BOOTSTRAP.read_text()
        for name, value in constants.items():
            (line,) = [line for line in text.splitlines() if line.startswith(f"{name} = ")]
            text = text.replace(line, f"{name} = {value}")
        (tmp_path / "bootstrap.py").write_text(text)
        monkeypatch.setattr(bootstrap, "__file__", str(tmp_path / "bootstrap.py"))
        request = Request("describe", None, values, far(serve), list(needed))
        return converse(Host("box", (), sys.executable), request, None, lambda *told: None)

    return run


SLOW = (
    "import time\n"
    "def serve(channel, place, request):\n"
    "    time.sleep(4)\n"
    "    channel.tell(result={'values': {'done': 1}, 'files': {}, 'cached': False})\n"
    "    return 0\n"
)


def test_signs_of_life_keep_what_takes_long(stand_in, monkeypatch):
    monkeypatch.setattr(ssh_command, "ALIVE_S", 0.2)
    assert stand_in(SLOW, PATIENCE_S=2).values == {"done": 1}


def test_without_signs_of_life_the_far_side_ends_itself(stand_in, monkeypatch):
    monkeypatch.setattr(Line, "stay_alive", lambda self: None)
    with pytest.raises(ConnectionFailed, match="was lost, or the program there was ended"):
        stand_in(SLOW, PATIENCE_S=2)


def test_the_near_side_gives_up_first():
    assert bootstrap.PATIENCE_S > ssh_command.ALIVE_S * ssh_command.ALIVE_TIMES + ssh_command.ALIVE_S


def test_what_breaks_there_is_told_by_its_last_line(stand_in):
    with pytest.raises(MachineError, match=r"^On box: the work broke off \(RuntimeError: boom\); mend what") as case:
        stand_in("raise RuntimeError('boom')")
    assert not isinstance(case.value, ConnectionFailed)
    with pytest.raises(MachineError, match=r"box broke off with code 7 while files were sent \(it was tired\)"):
        stand_in("import os, sys\nprint('it was tired.', file=sys.stderr, flush=True)\nos._exit(7)")


def test_what_libraries_print_there_is_no_record(stand_in):
    noise = 'import os\nos.write(1, b\'\\x1e{"error": {"kind": "ModelError", "message": "x"}}\\n\')\n'
    assert stand_in(noise + SLOW.replace("sleep(4)", "sleep(0)")).values == {"done": 1}


def test_modules_in_the_home_folder_there_are_not_taken_for_others(stand_in, tmp_path, monkeypatch):
    """`python -c` and `python -m` look first where they stand."""
    (tmp_path / "zipfile.py").write_text("raise RuntimeError('stray')\n")
    monkeypatch.chdir(tmp_path)
    where = (
        "import os, sys\n"
        "def serve(channel, place, request):\n"
        "    values = {'stands': os.getcwd(), 'path': sys.path, 'python': sys.executable}\n"
        "    channel.tell(result={'values': values, 'files': {}, 'cached': False})\n"
        "    return 0\n"
    )
    values = stand_in(where).values
    assert Path(values["stands"]).parent == tmp_path / ".cache/edgeattn/remote/packages"
    assert values["path"][0] == values["stands"] and "" not in values["path"]
    assert Path(values["python"]).is_absolute()


def test_what_is_kept_there_is_for_its_user_alone(stand_in, tmp_path):
    before = os.umask(0)
    try:
        stand_in(SLOW.replace("sleep(4)", "sleep(0)"))
    finally:
        os.umask(before)
    rooms = [tmp_path / ".cache/edgeattn/remote" / name for name in ("files", "steps", "work", "packages")]
    assert {room.stat().st_mode & 0o777 for room in rooms} == {0o700}


def test_a_python_that_is_too_old(stand_in):
    with pytest.raises(MissingLibrary, match=r"^On box: Python 3.10 or newer is needed, .* is 3\..*--host-python"):
        stand_in(SLOW, OLDEST="(99, 0)")


def test_a_jetson_that_is_too_old(stand_in, tmp_path):
    (tmp_path / "release").write_text("# R35 (release), REVISION: 4.1, GCID: 33958178\n")
    release, quick = f"Path({str(tmp_path / 'release')!r})", SLOW.replace("sleep(4)", "sleep(0)")
    with pytest.raises(MissingLibrary, match=r"^On box: this Jetson's JetPack is older than 6.1"):
        stand_in(quick, values={"backend": "tensorrt"}, RELEASE=release, OLDEST="(99, 0)")
    assert stand_in(quick, values={"backend": "openvino"}, RELEASE=release).values == {"done": 1}
