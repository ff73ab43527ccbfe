"""What a result was made by: our own code, the libraries, the commit. Cheap enough to compute on every run."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import subprocess
from functools import cache
from pathlib import Path

from edgeattn.artifact import sha256_bytes, sha256_json
from edgeattn.errors import RecipeError

_PACKAGE = Path(__file__).parent
_CHANGED = "+changes"
_NAME = __name__.partition(".")[0]
# What these hold never changes a result: sentences, storage, progress, and values that are hashed themselves.
_NEUTRAL = frozenset({"edgeattn", "edgeattn.errors", "edgeattn.artifact", "edgeattn.recipe", "edgeattn.progress"})


def code_version(*modules: str) -> str:
    """Hash of the named modules and of every edgeattn module they import, directly or not.

    Comments, docstrings and formatting do not count: editing them must not retrain a model. Raises RecipeError for a
    module, which can only be somebody's own, that is no file or not Python.
    """
    return sha256_json({module: _module_hash(module) for module in modules_of(*modules)})[:16]


def modules_of(*modules: str) -> set[str]:
    """The named modules and every one that they import of edgeattn or of their own package, but for neutral ones.

    Raises RecipeError as `code_version`.
    """
    found: set[str] = set()
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in found or module in _NEUTRAL:
            continue
        found.add(module)
        waiting += _imports(module)
    return found


def library_versions(*names: str) -> dict[str, str]:
    """Installed versions by distribution name; a missing one is left out."""
    versions = {}
    for name in names:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def git_revision() -> str | None:
    """The commit of this package's checkout, with `+changes` when files differ from it; None when installed.

    What runs wrote into its `reports/` decides nothing in a later one: it does not count as a change. Nor does a
    repository that merely surrounds the package, such as an app's with its environment inside.
    """
    try:
        _git("ls-files", "--error-unmatch", "__init__.py")
        revision = _git("rev-parse", "HEAD")
        return revision + (_CHANGED if _git("status", "--porcelain", "--", ":/", ":(top,exclude)reports") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def revision_since(begun: str | None) -> str | None:
    """The revision of a run that began as `begun`, with `+changes` when the checkout is another by now.

    What is imported late may then be code of after the commit: neither revision alone made the result.
    """
    if begun is None or begun == git_revision():
        return begun
    return begun.removesuffix(_CHANGED) + _CHANGED


def _git(*arguments: str) -> str:
    result = subprocess.run(["git", *arguments], capture_output=True, text=True, check=True, timeout=10, cwd=_PACKAGE)
    return result.stdout.strip()


def source_of(module: str) -> Path | None:
    """The source of a module, found without importing anything; None for what is none, such as a class in one."""
    package, _, inside = module.partition(".")
    for root in (_PACKAGE,) if package == _NAME else _folders(package):
        path = root.joinpath(*inside.split(".")) if inside else root
        file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if file.is_file():
            return file
    return None


@cache
def _folders(package: str) -> tuple[Path, ...]:
    """Where somebody else's package lies."""
    found = importlib.util.find_spec(package)
    return tuple(Path(place) for place in (found.submodule_search_locations or ())) if found else ()


@cache
def _source(module: str) -> str:
    file = source_of(module)
    if file is None:
        raise RecipeError(f"The module {module} has no source file; a model of one's own is a file of Python.")
    try:
        return file.read_text()
    except ValueError as error:
        raise RecipeError(f"The module {module} is not Python text ({error}); correct {file}.") from error


def _tree(module: str) -> ast.Module:
    source = _source(module)
    try:
        return ast.parse(source, filename=str(source_of(module)))
    except (SyntaxError, ValueError) as error:  # ValueError: zeros in the text
        raise RecipeError(f"The module {module} is not Python ({error}); correct {source_of(module)}.") from error


@cache
def _module_hash(module: str) -> str:
    tree = _tree(module)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [statement for statement in body if not _is_text(statement)] or [ast.Pass()]
    return sha256_bytes(ast.dump(tree).encode())


def _is_text(statement: ast.AST) -> bool:
    """True for a docstring, of a module, class, function or value alike."""
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _imports(module: str) -> set[str]:
    """The modules of edgeattn, and of `module`'s own package, that it imports, at the top or inside a function."""
    named: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            named.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(node, module)
            named.update((origin, *(f"{origin}.{alias.name}" for alias in node.names)))
    packages = {_NAME, module.partition(".")[0]}
    return {name for name in named if name.partition(".")[0] in packages and source_of(name) is not None}


def _origin(node: ast.ImportFrom, module: str) -> str:
    """The full name of what `node` of `module` imports from, relative or not."""
    if not node.level:
        return node.module or ""
    file = source_of(module)
    package = module if file is not None and file.name == "__init__.py" else module.rpartition(".")[0]
    relative = "." * node.level + (node.module or "")
    try:
        return importlib.util.resolve_name(relative, package)
    except ImportError as error:
        raise RecipeError(
            f"The module {module} imports {relative}, which lies outside its package; correct {file}."
        ) from error
