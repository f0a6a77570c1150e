"""Modules beside a file: `file.py:Object` imports neighbouring modules and packages from the file's own folder.

Each folder becomes a package with a name of its own, so that two folders may both have a helpers.py, and nothing is
added to sys.path. In the modules of such a folder `import helpers` means the folder's helpers.py where there is one,
before an installed module of that name, but never in place of the standard library, genbench or its zoo.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from genbench.keys import digest, file_hash

PREFIX = "genbench_source_"
NEVER = {*sys.stdlib_module_names, *sys.builtin_module_names, "genbench", "zoo"}
FOLDERS: dict[str, Path] = {}  # package name -> folder
FILES: dict[str, Path] = {}  # module name -> file, for files that were asked for by path
LOADED: dict[str, tuple[Path, str]] = {}  # module name -> file and hash of its content when it was imported
COMPILED: dict[str, tuple[str, CodeType]] = {}  # file -> hash of its content and the code compiled from it


def import_file(path: Path) -> ModuleType:
    """The module of a Python file, imported once in a process and again when a file of its folder has changed.

    The name is the same in every process, so that objects pickle. Raises what importing raises.
    """
    root, module = _names(path)
    FOLDERS[root] = path.parent
    install()
    if _edited(root):
        _forget(root)
    FILES[module] = path
    return importlib.import_module(module)


def imported_file(path: Path) -> ModuleType | None:
    """The module that import_file returns, where it would import nothing; None where a file is new or has changed."""
    root, module = _names(path)
    return None if module not in sys.modules or _edited(root) else sys.modules[module]


@lru_cache(maxsize=1024)
def _names(path: Path) -> tuple[str, str]:
    """The names of the package of a file's folder, and of the file's module."""
    root = f"{PREFIX}{digest(str(path.parent))[:12]}"
    return root, f"{root}.{path.stem.replace('.', '-')}"


def known_files() -> tuple[dict[str, Path], dict[str, Path]]:
    """What another process needs to import the same files under the same names, for `learn_files`."""
    return dict(FOLDERS), dict(FILES)


def learn_files(known: tuple[dict[str, Path], dict[str, Path]]) -> None:
    """Makes importable what another process knows, so that objects of these files can be unpickled."""
    FOLDERS.update(known[0])
    FILES.update(known[1])
    install()


def install() -> None:
    """Makes modules beside files importable."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def forget_files(names: Iterable[str]) -> None:
    """Makes the files of the user's among these imported modules be imported again when they are asked for."""
    for name in [name for name in names if name.startswith(PREFIX)]:
        del sys.modules[name]
        LOADED.pop(name, None)


def _forget(root: str) -> None:
    inside = f"{root}."
    forget_files([name for name in sys.modules if name == root or name.startswith(inside)])


def meant(module: str, name: str) -> str:
    """The full name of the module that `import name` in `module` means: a neighbour's, or the name itself."""
    root = module.partition(".")[0]
    folder = FOLDERS.get(root)
    top = name.partition(".")[0]
    if folder is None or top in NEVER or _location(folder, (top,)) is None:
        return name
    return f"{root}.{name}"


def _edited(root: str) -> bool:
    loaded = [entry for name, entry in LOADED.items() if name.partition(".")[0] == root]
    return any(not path.is_file() or file_hash(path) != content for path, content in loaded)


def _location(folder: Path, parts: Sequence[str]) -> Path | None:
    """The package folder or the .py file of a module below a folder."""
    path = folder.joinpath(*parts)
    if (path / "__init__.py").is_file():
        return path
    file = path.with_name(f"{path.name}.py")
    if file.is_file():
        return file
    return path if path.is_dir() and next(path.glob("*.py"), None) else None


class _Loader(SourceFileLoader):
    """Compiles the file as it is now: a cached compilation is found by its time in seconds, which an edit may share."""

    def get_code(self, fullname: str) -> CodeType:
        content = self.get_data(self.path)
        checksum = hashlib.sha256(content).hexdigest()
        LOADED[fullname] = (Path(self.path), checksum)
        if COMPILED.get(self.path, ("",))[0] != checksum:
            COMPILED[self.path] = (checksum, self.source_to_code(content, self.path))
        return COMPILED[self.path][1]

    def exec_module(self, module: ModuleType) -> None:
        # Import statements look __import__ up here, those inside of functions too.
        vars(module)["__builtins__"] = {**vars(builtins), "__import__": _import}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        root, *parts = fullname.split(".")
        if root not in FOLDERS:
            return None
        location = FILES.get(fullname) or (_location(FOLDERS[root], parts) if parts else FOLDERS[root])
        if location is None:
            return None
        file = location / "__init__.py" if parts and location.is_dir() else location
        if file.is_file():
            folders = [str(location)] if location.is_dir() else None
            return spec_from_file_location(
                fullname, file, loader=_Loader(fullname, str(file)), submodule_search_locations=folders
            )
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = [str(location)]
        return spec


def _import(
    name: str,
    globals: Mapping[str, Any] | None = None,
    locals: Mapping[str, Any] | None = None,
    fromlist: Sequence[str] | None = (),
    level: int = 0,
) -> Any:
    """As the built-in __import__, which import statements call."""
    full = meant(str((globals or {}).get("__name__", "")), name) if level == 0 else name
    if full == name:
        return builtins.__import__(name, globals, locals, fromlist or (), level)
    if fromlist:
        return builtins.__import__(full, globals, locals, fromlist, 0)
    importlib.import_module(full)
    return sys.modules[".".join(full.split(".")[:2])]  # `import a.b` binds a
