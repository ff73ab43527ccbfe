"""What a family of rules is given and what it gives: `Rules`, `Rule`, `Finding`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol

from edgeattn import jetpack
from edgeattn.errors import RecipeError
from edgeattn.onnxgraph.view import Graph, Node

if TYPE_CHECKING:
    from edgeattn.target import Target

Ranges = Mapping[str, float]
"""The largest |x| of a tensor over the calibration samples, by the tensor's name in the FP32 graph."""

OLDEST, NEWEST = (10, 0), (11, 4)
OPSET_MIN = 9


def known(ranges: Ranges, name: str) -> float | None:
    """The range of a tensor; `quantize.fp16` appends `_fp16` to the names of the FP32 graph."""
    return ranges.get(name, ranges.get(name.removesuffix("_fp16")))


class Severity(str, Enum):
    """An error is refused by TensorRT, or computed wrongly without a word. A warning is built, but slower than it need
    be or wrong for values that may come. A note is worth knowing."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


@dataclass(frozen=True)
class Rules:
    """Whose rules: `tensorrt` is a version such as (10, 3), `dla` asks for those of the deep learning accelerator too,
    `compute_capability` is the GPU's, such as (8, 7); None where it is not known.

    `seq_len_int8_max` is the longest sequence for which TensorRT has fused INT8 attention (NVIDIA/TensorRT #3724).
    Raises RecipeError for a version whose rules are not known.
    """

    tensorrt: tuple[int, ...]
    dla: bool = False
    compute_capability: tuple[int, ...] | None = None
    seq_len_int8_max: int = 512

    def __post_init__(self) -> None:
        if not OLDEST <= self.tensorrt[:2] <= NEWEST:
            raise RecipeError(
                f"The rules of TensorRT {self.version} are not known; there are those of {jetpack.dotted(OLDEST)} to "
                f"{jetpack.dotted(NEWEST)}. JetPack 5 and 6.0 have TensorRT 8, which is not supported: it cannot build "
                "strongly typed networks."
            )

    @property
    def version(self) -> str:
        return jetpack.dotted(self.tensorrt)

    @property
    def opset_max(self) -> int:
        """The newest opset that this version's parser reads."""
        return jetpack.opset_max(self.tensorrt)


def parse_version(text: str) -> tuple[int, ...]:
    """`10.3` or `10.3.0.26` as numbers. Raises RecipeError."""
    try:
        return jetpack.version(text)
    except ValueError:
        raise RecipeError(f"A TensorRT version is written as 10.3 or 10.16.2.10, got '{text[:40]}'.") from None


def rules_for(target: Target, version: str, *, dla: bool = False) -> Rules:
    """The rules of this TensorRT on the target's board. Raises RecipeError."""
    hardware = getattr(target, "hardware", None)
    capability = hardware.compute_capability if hardware is not None else None
    return Rules(parse_version(version), dla, jetpack.version(capability) if capability else None)


@dataclass(frozen=True)
class Finding:
    """What is wrong at one node. The four texts are sentences; `node` and `operator` are empty for the whole graph."""

    node: str
    operator: str
    rule: str
    severity: Severity
    what: str
    consequence: str
    cure: str

    def sentence(self) -> str:
        """All of it in one line."""
        where = f"{self.operator} '{self.node}': " if self.node else ""
        return f"{where}{self.what} {self.consequence} {self.cure}"

    def to_dict(self) -> dict[str, str]:
        return {**asdict(self), "severity": self.severity.value}


@dataclass(frozen=True)
class Rule:
    """One thing that a graph must be. `id` is `family.name`."""

    id: str
    severity: Severity
    consequence: str
    cure: str

    def at(self, node: Node | None, what: str) -> Finding:
        """That `node` (None: the graph as a whole) breaks it; `what` is the sentence that says how."""
        label, operator = (node.label, node.operator) if node else ("", "")
        return Finding(label, operator, self.id, self.severity, what, self.consequence, self.cure)


class Family(Protocol):
    """The function of one `lint/<family>.py`; its `Rule`s are the module's constants."""

    def check(self, graph: Graph, rules: Rules, ranges: Ranges) -> Iterable[Finding]: ...


def number(value: Any) -> str:
    """A figure as a sentence shows it."""
    return f"{float(value):.4g}"
