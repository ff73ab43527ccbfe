from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeattn import host

X86 = "processor : 0\nmodel name\t: A CPU @ 3 GHz\nflags\t\t: fpu avx2 avx512f avx512_vnni sse\n"
PLAIN = "processor : 0\nmodel name\t: Old CPU\nflags\t\t: fpu avx2 sse\n"
ARM = "processor : 0\nFeatures\t: fp asimd asimddp fphp asimdhp sve2\n"


@pytest.mark.parametrize(
    ("text", "name", "isa", "products"),
    [
        (X86, "A CPU @ 3 GHz", ["avx2", "avx512f", "avx512_vnni"], True),
        (PLAIN, "Old CPU", ["avx2"], False),
        (ARM, None, ["asimd", "asimdhp", "asimddp", "fphp", "sve2"], True),
        ("", None, [], False),
    ],
)
def test_what_linux_says_of_the_cpu(text, name, isa, products, monkeypatch):
    monkeypatch.setattr(host, "_cpuinfo", text.splitlines)
    assert host.isa() == isa
    assert host.has_int8_products() is products
    assert host.cpu_model() == name or (name is None and host.cpu_model())
    assert host.identity() == {"cpu": host.cpu_model(), "cores": host.cores(), "isa": isa}


def test_describe_is_json_with_the_fields_of_the_contract():
    found = json.loads(json.dumps(host.describe(), allow_nan=False))
    assert set(found) >= {"cpu", "cores", "isa", "memory_gb", "os", "python", "packages", "device"}
    assert found["cores"] >= 1
    assert found["memory_gb"] > 0
    assert "numpy" in found["packages"]


def test_where_engines_are_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("EDGEATTN_CACHE", "elsewhere")
    assert host.cache_folder() == Path("elsewhere")
    monkeypatch.delenv("EDGEATTN_CACHE")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert host.cache_folder() == tmp_path / ".cache" / "edgeattn"

    def homeless():
        raise RuntimeError("no home")

    monkeypatch.setattr(Path, "home", homeless)
    assert host.cache_folder() is None
