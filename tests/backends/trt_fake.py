"""A strict stand-in for the `tensorrt` package of one version, made from NVIDIA's own list of its API.

It knows names and signatures and nothing else: what a call returns is given by hooks. Strict means that it fails where
the real binding fails, tried against the wheels of 10.3.0 and 11.4.0:

* a name that the version does not have is an AttributeError, reading it and writing it;
* a property that only reads is an AttributeError when written;
* an argument too many, too few, of another name or of another type than in any recorded overload is a TypeError;
* a class without a constructor cannot be constructed, a subclass must call its base's `__init__`;
* a number out of its C type's range, a shape of anything but up to 8 whole numbers, None for a number or an enum are
  a TypeError (a RuntimeError where an overload takes any list or tuple);
* an enum member equals no number unless it is turned into one, and has no order; an enum cannot be gone through.

A stand-in never counts as a result: nothing that it returns was computed by TensorRT.
"""

from __future__ import annotations

import enum
import json
import operator
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

FOLDER = Path(__file__).with_name("trt_api")
VERSIONS = ("10.3.0", "10.7.0", "10.13.3", "10.16.1", "11.0.0", "11.4.0")
"""Those that the backend must work with; 8.6.1 is here to be refused."""

Hooks = dict[str, Callable[..., Any]]
_DIMS_MAX = 8


@cache
def api(version: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{version}.json").read_text())


class Unanswered(AssertionError):
    """The backend asked something that the test gives no answer to; an error of neither TensorRT nor the binding."""


class _Meta(type):
    """pybind11 notices after construction that a base's `__init__` was not called."""

    def __call__(cls, *arguments: Any, **named: Any) -> Any:
        made = super().__call__(*arguments, **named)
        if not made._state.get("constructed"):
            raise TypeError(f"tensorrt.{cls._own().__name__}.__init__() must be called when overriding __init__")
        return made

    def _own(cls) -> type:
        """The class of the package that this is, or is derived from."""
        return next(base for base in cls.__mro__ if "_description" in vars(base))


class _Object(metaclass=_Meta):
    """What all classes of the package are derived from; `_state` is for hooks and property values."""

    __slots__ = ("__weakref__", "_state")

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        made = super().__new__(cls)
        object.__setattr__(made, "_state", {})
        return made

    def __setattr__(self, name: str, value: Any) -> None:
        """An instance of the package's own class takes its properties only; a subclass in Python has a `__dict__`."""
        found = getattr(type(self), name, None)
        if isinstance(found, property) or name == "__class__" or hasattr(self, "__dict__"):
            object.__setattr__(self, name, value)
        else:
            raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")


class _EnumMeta(enum.EnumMeta):
    """Of pybind11's enums only a call finds a member, and none can be gone through."""

    def __getitem__(cls, name: str) -> Any:
        raise TypeError(f"type '{cls.__name__}' is not subscriptable")

    def __iter__(cls) -> Any:
        raise TypeError(f"'{cls.__name__}' object is not iterable")


class _Enum(enum.Enum, metaclass=_EnumMeta):
    """Equal to itself and to no number; no number is made of it but by `int`, and only severities have an order."""

    def __int__(self) -> int:
        return int(self.value)

    __index__ = __int__

    def __lt__(self, other: Any) -> bool:
        if type(self).__name__ != "Severity" or type(other) is not type(self):
            return NotImplemented
        return int(self) < int(other)


class Parameter:
    def __init__(self, text: str) -> None:
        head, equals, self.default = (part.strip() for part in text.partition(" = "))
        self.optional = bool(equals)
        self.name, _, self.type = (part.strip() for part in head.partition(":"))
        self.named = not re.fullmatch(r"arg\d+", self.name)  # pybind11's word for a parameter without a name


class Signature:
    """One overload, such as `set_shape(self: IOptimizationProfile, input: str, min: Dims) -> None`."""

    def __init__(self, text: str) -> None:
        self.text = text
        inside, _, self.returns = text[text.index("(") + 1 :].rpartition(")")[0], "", text.rpartition("-> ")[2]
        parameters = [Parameter(part) for part in _split(inside)]
        self.parameters = parameters[1:] if parameters and parameters[0].name == "self" else parameters

    def bind(self, module: ModuleType, arguments: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any] | None:
        """The arguments by name, or None where they do not fit."""
        if len(arguments) > len(self.parameters):
            return None
        bound = dict(zip((p.name for p in self.parameters), arguments, strict=False))
        for name, value in named.items():
            if name in bound or not any(p.name == name and p.named for p in self.parameters):
                return None
            bound[name] = value
        for parameter in self.parameters:
            if parameter.name not in bound:
                if not parameter.optional:
                    return None
            elif not accepts(module, parameter.type, bound[parameter.name], parameter.name):
                return None
        return bound


def _split(text: str) -> list[str]:
    """At commas that are in no bracket."""
    parts, depth, start = [], 0, 0
    for index, sign in enumerate(text):
        depth += (sign in "([<{") - (sign in ")]>}")
        if sign == "," and depth == 0:
            parts.append(text[start:index])
            start = index + 1
    return [part for part in (*parts, text[start:]) if part.strip()]


_UNSIGNED = {"flags": 32, **dict.fromkeys(("memory", "stream_handle", "pool_size", "profile_stream"), 64)}


def _is_integer(value: Any, name: str = "") -> bool:
    """Within the C type of the parameter or property `name`: those of `_UNSIGNED`, else int32_t."""
    if not hasattr(value, "__index__"):
        return False
    low, high = (0, 1 << _UNSIGNED[name]) if name in _UNSIGNED else (-(1 << 31), 1 << 31)
    return low <= operator.index(value) < high


def _is_buffer(value: Any) -> bool:
    try:
        memoryview(value)
    except TypeError:
        return False
    return True


def _are_sizes(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) <= _DIMS_MAX and all(_is_integer(size) for size in value)


_INTEGERS = {"int", "typing.SupportsInt"}
_PLAIN: dict[str, Callable[[Any], bool]] = {
    "float": lambda value: isinstance(value, (int, float)),
    "typing.SupportsFloat": lambda value: isinstance(value, (int, float)),
    "bool": lambda value: isinstance(value, bool),
    "str": lambda value: isinstance(value, str),
    "bytes": lambda value: isinstance(value, bytes),
    "tuple": lambda value: isinstance(value, tuple),
    "list": lambda value: isinstance(value, list),
    "slice": lambda value: isinstance(value, slice),
    "object": lambda value: True,
    "buffer": _is_buffer,
    "typing_extensions.Buffer": _is_buffer,
    "List[int]": _are_sizes,
    "collections.abc.Sequence[typing.SupportsInt]": _are_sizes,
    "None": lambda value: value is None,
}


def accepts(module: ModuleType, kind: str, value: Any, name: str = "") -> bool:
    """Whether the binding would take `value` for the parameter or property `name` of the recorded type `kind`."""
    if kind in _INTEGERS:
        return _is_integer(value, name)
    if kind in _PLAIN:
        return _PLAIN[kind](value)
    found: Any = module
    for part in kind.rpartition("::")[2].split("."):  # "nvonnxparser::OnnxParserFlag", "ILogger.Severity"
        found = getattr(found, part, None)
    if found is None or not isinstance(found, type):
        raise TypeError(f"the kept dump has no type {kind}; nothing may pass one")
    if found is getattr(module, "Dims", None) and isinstance(value, (list, tuple)):
        return _are_sizes(value)  # the binding turns them into it
    return isinstance(value, found)


def make(version: str, hooks: Hooks) -> ModuleType:
    """The package of `version`. `hooks` maps "Class.method", "Class.property" (its reader) and "function" to what
    answers: a method's hook gets the object and the arguments by name. A call without a hook is Unanswered."""
    described = api(version)
    module = ModuleType("tensorrt")
    module.__version__ = described["wheel"].split("-")[1]  # such as 10.13.3.9, as the package itself says
    pending = dict(described["classes"])
    while pending:
        for name, description in list(pending.items()):
            bases = description.get("bases", [])
            if not any(base in pending for base in bases):
                setattr(module, name, _class(module, name, description, hooks, bases))
                del pending[name]
    for name, signatures in described["functions"].items():
        setattr(module, name, _function(module, name, signatures, hooks))
    return module


def instance(module: ModuleType, name: str, /, **state: Any) -> Any:
    """An object of the package that only TensorRT makes; `state` is for the hooks."""
    kind = getattr(module, name)
    made = kind.__new__(kind)
    made._state.update(state, constructed=True)
    return made


def _class(module: ModuleType, name: str, description: dict[str, Any], hooks: Hooks, bases: list[str]) -> Any:
    if "enum" in description:
        return _Enum(name, description["enum"])
    if name == "IHostMemory":
        return _HostMemory
    parents = tuple(getattr(module, base) for base in bases) or (_Object,)
    members: dict[str, Any] = {"__slots__": (), "_description": description}
    for inner, below in description.get("classes", {}).items():
        members[inner] = next((getattr(p, inner) for p in parents if hasattr(p, inner)), None) or _class(
            module, inner, below, hooks, []
        )
    # The dump repeats what a class has from its base.
    inherited = {key for base in bases for kind in ("methods", "properties") for key in _described(module, base, kind)}
    for method, signatures in description.get("methods", {}).items():
        full = f"{name}.{method}"
        if method in inherited - {"__init__"}:
            continue
        if method == "__init__":
            members[method] = _constructor(module, full, signatures, hooks)
        elif not (signatures == [] and method == "__buffer__"):
            members[method] = _method(module, full, signatures, hooks)
    for key, kind in description.get("properties", {}).items():
        if key in inherited:
            continue
        members[key] = _property(module, f"{name}.{key}", key, kind, hooks)
    made = _Meta(name, parents, members)
    for key, text in description.get("constants", {}).items():  # "<Severity.WARNING: 2>"
        found = re.fullmatch(r"<(\w+)\.(\w+): \d+>", text)
        if found:
            type.__setattr__(made, key, getattr(getattr(made, found[1]), found[2]))
    return made


def _described(module: ModuleType, name: str, kind: str) -> dict[str, Any]:
    return getattr(module, name)._description.get(kind, {})


def _bound(
    module: ModuleType, full: str, signatures: list[Signature], arguments: tuple[Any, ...], named: dict[str, Any]
) -> tuple[Signature, dict[str, Any]]:
    for signature in signatures:
        if (bound := signature.bind(module, arguments, named)) is not None:
            if isinstance(shape := bound.get("shape"), (list, tuple)) and not _are_sizes(shape):
                raise RuntimeError(f"{full}(): {shape} is no shape")  # of an overload that takes any list or tuple
            return signature, bound
    given = ", ".join([*map(repr, arguments), *(f"{key}={value!r}" for key, value in named.items())])
    known = "; ".join(signature.text for signature in signatures)
    raise TypeError(f"{full}(): incompatible function arguments ({given}); supported are: {known}")


def _answer(module: ModuleType, full: str, hooks: Hooks, signature: Signature, *subject: Any, **bound: Any) -> Any:
    if full not in hooks:
        raise Unanswered(f"{full} was called and the test has no answer for it")
    result = hooks[full](*subject, **bound)
    kind = signature.returns.rpartition("::")[2]
    if result is not None and kind in ("bool", "int", "str"):
        assert accepts(module, kind, result), f"the test's answer to {full} is no {kind}: {result!r}"
    elif result is not None and isinstance(getattr(module, kind, None), type):
        assert isinstance(result, getattr(module, kind)), f"the test's answer to {full} is no {kind}: {result!r}"
    return result


def _method(module: ModuleType, full: str, texts: list[str], hooks: Hooks) -> Any:
    signatures = [Signature(text) for text in texts if text != "static"]

    def method(self: Any, *arguments: Any, **named: Any) -> Any:
        signature, bound = _bound(module, full, signatures, arguments, named)
        return _answer(module, full, hooks, signature, self, **bound)

    return method


def _function(module: ModuleType, name: str, texts: list[str], hooks: Hooks) -> Any:
    def function(*arguments: Any) -> Any:
        if name not in hooks:
            raise Unanswered(f"{name} was called and the test has no answer for it")
        return hooks[name](*arguments)

    return function


def _constructor(module: ModuleType, full: str, texts: list[str], hooks: Hooks) -> Any:
    signatures = [Signature(text) for text in texts]

    def construct(self: Any, *arguments: Any, **named: Any) -> None:
        if not signatures:
            raise TypeError(f"tensorrt.{full.partition('.')[0]}: No constructor defined!")
        _, bound = _bound(module, full, signatures, arguments, named)
        self._state["constructed"] = True
        if full in hooks:
            hooks[full](self, **bound)

    return construct


def _property(module: ModuleType, full: str, key: str, description: str, hooks: Hooks) -> Any:
    access, _, kind = description.partition(" ")

    def read(self: Any) -> Any:
        if full in hooks:
            return hooks[full](self)
        if key in self._state:
            return self._state[key]
        raise Unanswered(f"{full} was read and the test has no answer for it")

    def write(self: Any, value: Any) -> None:
        name = kind.rpartition("::")[2]
        if value is None:  # a pointer to nothing; neither a number nor an enum
            fits = name not in {*_INTEGERS, "float"} and not isinstance(getattr(module, name, None), _EnumMeta)
        else:
            fits = not name or name.lower().startswith("list") or accepts(module, name, value, key)
        if not fits:
            raise TypeError(f"{full} must be a {kind}, got {value!r}")
        self._state[key] = value

    return property(read, write if access == "rw" else None)


class _HostMemory(bytes):
    """Memory of TensorRT: a buffer with `nbytes` and `dtype`, and no other method of bytes."""

    _ALLOWED = frozenset({"nbytes", "dtype"})

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in type(self)._ALLOWED:
            return super().__getattribute__(name)
        raise AttributeError(f"'IHostMemory' object has no attribute '{name}'")

    @property
    def nbytes(self) -> int:
        return memoryview(self).nbytes

    def __len__(self) -> int:
        raise TypeError("object of type 'IHostMemory' has no len()")

    def __iter__(self) -> Any:
        raise TypeError("'IHostMemory' object is not iterable")

    def __getitem__(self, index: Any) -> Any:
        raise TypeError("'IHostMemory' object is not subscriptable")


_HostMemory.__name__ = "IHostMemory"
