"""Reads the installed `stripe` package's generated source, without importing it.

The package is generated from Stripe's own specification for exactly the API version it pins, so
its source is the nearest thing to that specification which is obtainable off-line. Everything
is parsed with `ast`: importing the package costs more than half a second, and its annotations
name classes that exist only for type checkers.

Limits: knows the layout of the 16.x packages (service classes, params TypedDicts, resource
classes with nested classes); another layout raises LookupError at start, never a silent gap.
"""

import ast
import importlib.util
from dataclasses import dataclass
from functools import cache
from pathlib import Path


@cache
def package_dir() -> Path:
    """Directory of the installed package; LookupError when it is not installed."""
    spec = importlib.util.find_spec("stripe")
    if spec is None or spec.origin is None:
        raise LookupError("the stripe package is not installed: install requirements/dev.txt")
    return Path(spec.origin).parent


def _constant(module: str, name: str) -> str:
    tree = ast.parse((package_dir() / module).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
            targets = [t.id for t in node.targets if isinstance(t, ast.Name)]
            if name in targets:
                return str(node.value.value)
    raise LookupError(f"{name} is not in the stripe package's {module}")


@cache
def api_version() -> str:
    """The API version that the installed package sends in Stripe-Version."""
    return _constant("_api_version.py", "CURRENT")


@cache
def package_version() -> str:
    """The version of the installed package."""
    return _constant("_version.py", "VERSION")


@dataclass(frozen=True)
class Module:
    """One parsed module: its classes, its functional TypedDicts, and where names come from."""

    name: str
    classes: dict[str, ast.ClassDef]
    assigned: dict[str, ast.Call]
    imports: dict[str, tuple[str, str]]  # local name -> (module, name there)


def module_path(name: str) -> Path:
    """File of a module given its dotted name, e.g. `stripe.params._customer_list_params`."""
    base = package_dir().joinpath(*name.split(".")[1:])
    return base / "__init__.py" if base.is_dir() else base.with_suffix(".py")


@cache
def load(name: str) -> Module:
    """Parse one module of the package; LookupError when there is no such module."""
    path = module_path(name)
    if not path.is_file():
        raise LookupError(f"the stripe package has no module {name}")
    tree = ast.parse(path.read_text())
    classes: dict[str, ast.ClassDef] = {}
    assigned: dict[str, ast.Call] = {}
    imports: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                imports[alias.asname or alias.name] = (node.module, alias.name)
    for top in tree.body:
        if isinstance(top, ast.ClassDef):
            classes[top.name] = top
        elif isinstance(top, ast.Assign) and isinstance(top.value, ast.Call):
            for target in top.targets:
                if isinstance(target, ast.Name):
                    assigned[target.id] = top.value
    return Module(name, classes, assigned, imports)


@dataclass(frozen=True)
class Call:
    """One service method: what it sends and the TypedDict that describes its parameters."""

    method: str  # GET, POST, DELETE
    path: str  # template, e.g. /v1/customers/{customer}
    base_address: str  # api, files, connect, meter_events
    params: tuple[str, str] | None  # (module, class) of its parameters


def service_calls() -> list[Call]:
    """Every call of every service class in the package, the synchronous methods only."""
    calls: list[Call] = []
    root = package_dir()
    for path in sorted(root.rglob("*_service.py")):
        relative = path.relative_to(root.parent).with_suffix("")
        module = load(".".join(relative.parts))
        for cls in module.classes.values():
            for node in cls.body:
                if isinstance(node, ast.FunctionDef):
                    calls.extend(_calls_of(node, module))
    return calls


def _calls_of(function: ast.FunctionDef, module: Module) -> list[Call]:
    params = next(
        (a.annotation for a in function.args.args if a.arg == "params" and a.annotation), None
    )
    found = []
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {"_request", "_request_stream"}
        ):
            method, path = node.args[0], node.args[1]
            base = next(
                (
                    k.value.value
                    for k in node.keywords
                    if k.arg == "base_address" and isinstance(k.value, ast.Constant)
                ),
                "api",
            )
            assert isinstance(method, ast.Constant)
            found.append(
                Call(
                    method=str(method.value).upper(),
                    path=_template(path),
                    base_address=str(base),
                    params=_params_class(params, module),
                )
            )
    return found


def _template(node: ast.expr) -> str:
    """The path literal, with its {names} when it is `"...".format(...)`."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        node = node.func.value
    if not isinstance(node, ast.Constant):
        raise LookupError(f"a service path is not a literal: {ast.unparse(node)}")
    return str(node.value)


def _params_class(annotation: ast.expr | None, module: Module) -> tuple[str, str] | None:
    if annotation is None:
        return None
    for node in ast.walk(annotation):
        name: str | None = None
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value
        elif isinstance(node, ast.Name):
            name = node.id
        if name and name in module.imports and name.endswith("Params"):
            return module.imports[name]
    return None
