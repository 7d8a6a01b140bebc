"""Compiles the SDK's annotations (as syntax trees) into shapes.

Two readers share the type grammar: TypedDicts of request parameters, where `NotRequired` marks
what may be left out, and resource classes of answers, where `Optional` does. References to other
classes are resolved when first used: the resource classes refer to each other in circles, and a
simulator that needs twenty of them should not parse four hundred.
"""

import ast
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal

from devstack.stripe import sdk_source
from devstack.stripe.shapes import (
    LEAVES,
    AnyOf,
    Choice,
    ListOf,
    MapOf,
    Nullable,
    Record,
    Shape,
    Text,
    Whole,
    Wire,
    any_of,
)


@dataclass(frozen=True)
class Later(Shape):
    """A class of the SDK that is compiled when the first value meets it."""

    resolve: Callable[[], Shape] = field(compare=False)
    takes: Literal["leaf", "list", "dict"] = "dict"

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        return self.resolve().check(value, param, wire)


@dataclass(frozen=True)
class Scope:
    """Where a name in an annotation is looked up: the module, then enclosing classes."""

    module: sdk_source.Module
    classes: tuple[ast.ClassDef, ...] = ()

    def nested(self, name: str) -> tuple["Scope", ast.ClassDef] | None:
        for depth in range(len(self.classes), 0, -1):
            for node in self.classes[depth - 1].body:
                if isinstance(node, ast.ClassDef) and node.name == name:
                    return Scope(self.module, self.classes[:depth]), node
        found = self.module.classes.get(name)
        return (Scope(self.module), found) if found else None


@cache
def request_shape(module: str, name: str) -> Record:
    """Shape of one params TypedDict, without the per-request options it inherits."""
    source = sdk_source.load(module)
    if name in source.classes:
        return _typed_dict(Scope(source), source.classes[name])
    if name in source.assigned:
        return _functional(Scope(source), name, source.assigned[name])
    if name in source.imports:
        return request_shape(*source.imports[name])
    raise LookupError(f"{name} is not in {module}")


@cache
def answer_shape(module: str, name: str) -> Record:
    """Shape of one resource class."""
    source = sdk_source.load(module)
    if name not in source.classes and name in source.imports:
        return answer_shape(*source.imports[name])
    return _resource(Scope(source), source.classes[name])


def _annotated(node: ast.ClassDef) -> list[tuple[str, ast.expr]]:
    return [
        (item.target.id, item.annotation)
        for item in node.body
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    ]


def _typed_dict(scope: Scope, node: ast.ClassDef) -> Record:
    fields: dict[str, Shape] = {}
    required: set[str] = set()
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id not in {"RequestOptions", "TypedDict"}:
            inherited = request_shape(scope.module.name, base.id)
            fields |= inherited.fields
            required |= inherited.required
    _add_params(scope, _annotated(node), fields, required)
    return Record(node.name, fields, frozenset(required))


def _functional(scope: Scope, name: str, call: ast.Call) -> Record:
    """`X = TypedDict("X", {...})`, which the SDK uses where a key is a Python keyword."""
    mapping = call.args[1]
    if not isinstance(mapping, ast.Dict):
        raise LookupError(f"{name} is not a TypedDict with literal fields")
    pairs = [
        (str(key.value), value)
        for key, value in zip(mapping.keys, mapping.values, strict=True)
        if isinstance(key, ast.Constant)
    ]
    fields: dict[str, Shape] = {}
    required: set[str] = set()
    _add_params(scope, pairs, fields, required)
    return Record(name, fields, frozenset(required))


def _add_params(
    scope: Scope,
    pairs: list[tuple[str, ast.expr]],
    fields: dict[str, Shape],
    required: set[str],
) -> None:
    for key, annotation in pairs:
        inner = _argument(annotation, "NotRequired")
        if inner is None:
            required.add(key)
        fields[key] = _shape(scope, inner or annotation, request=True)


def _resource(scope: Scope, node: ast.ClassDef) -> Record:
    inside = Scope(scope.module, (*scope.classes, node))
    fields: dict[str, Shape] = {}
    required: set[str] = set()
    for key, annotation in _annotated(node):
        if key.startswith("_") or _argument(annotation, "ClassVar") is not None:
            continue
        inner = _argument(annotation, "Optional")
        if inner is None:
            required.add(key)
            fields[key] = _shape(inside, annotation, request=False)
        else:
            fields[key] = Nullable(_shape(inside, inner, request=False))
    return Record(node.name, fields, frozenset(required))


def _argument(node: ast.expr, wrapper: str) -> ast.expr | None:
    """X of `wrapper[X]`, looking through quotes; None when it is something else."""
    node = _unquoted(node)
    if isinstance(node, ast.Subscript) and _name(node.value) == wrapper:
        return node.slice
    return None


def _unquoted(node: ast.expr) -> ast.expr:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return ast.parse(node.value, mode="eval").body
    return node


def _name(node: ast.expr) -> str:
    return node.id if isinstance(node, ast.Name) else ast.unparse(node)


def _elements(node: ast.expr) -> list[ast.expr]:
    return list(node.elts) if isinstance(node, ast.Tuple) else [node]


def _shape(scope: Scope, node: ast.expr, *, request: bool) -> Shape:
    node = _unquoted(node)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return any_of([_shape(scope, side, request=request) for side in (node.left, node.right)])
    if isinstance(node, ast.Subscript):
        return _generic(scope, _name(node.value), node.slice, request=request)
    if isinstance(node, ast.Constant) and node.value is None:
        return Choice(())
    return _named(scope, _name(node), request=request)


def _generic(scope: Scope, outer: str, inner: ast.expr, *, request: bool) -> Shape:
    shapes = (
        [] if outer == "Literal" else [_shape(scope, e, request=request) for e in _elements(inner)]
    )
    match outer:
        case "Literal":
            values = tuple(e.value for e in _elements(inner) if isinstance(e, ast.Constant))
            return Choice(tuple(v for v in values if isinstance(v, str | bool | int)))
        case "Union":
            return any_of(shapes)
        case "Optional":
            return Nullable(shapes[0])
        case "List" | "Sequence":
            return ListOf(shapes[0])
        case "Dict" | "Mapping":
            return MapOf(shapes[1])
        case "UntypedStripeObject":
            return MapOf(shapes[0])
        case "ExpandableField":
            return AnyOf((Text(), shapes[0]))
        case "ListObject":
            return list_shape(shapes[0])
    raise LookupError(f"the type {outer}[...] is not known to the oracle")


def list_shape(item: Shape) -> Record:
    """The list object that wraps every page."""
    return Record(
        "ListObject",
        {
            "object": Choice(("list",)),
            "data": ListOf(item),
            "has_more": LEAVES["bool"](),
            "url": Text(),
            "total_count": Whole(),
        },
        frozenset({"object", "data", "has_more", "url"}),
    )


def _named(scope: Scope, name: str, *, request: bool) -> Shape:
    if name in LEAVES:
        return LEAVES[name]()
    if name in {"UntypedStripeObject", "StripeObject"}:
        return MapOf(LEAVES["Any"]())
    local = scope.nested(name)
    if local:
        where, node = local
        return Later(cache(lambda: (_typed_dict if request else _resource)(where, node)))
    if name in scope.module.assigned:
        return Later(lambda: request_shape(scope.module.name, name))
    if name in scope.module.imports:
        module, original = scope.module.imports[name]
        if original == "StripeObject":
            return MapOf(LEAVES["Any"]())
        return Later(lambda: (request_shape if request else answer_shape)(module, original))
    raise LookupError(f"{name} in {scope.module.name} is not known to the oracle")
