"""Collect from the code every reason for which a layer can be left whole.

Reasons are the texts of `Barrier` and `NotElementwise`, what is noted in `reasons` or given to
`_refuse`, and what functions such as `KernelRule.barrier` return. Names that stand for a text are
looked up in their function and module. Fields of f-strings become "…".
"""

import ast
import pathlib
from collections.abc import Iterator

import keras_dfprune

PACKAGE = pathlib.Path(keras_dfprune.__file__).parent
RAISED = {"Barrier", "NotElementwise", "Together"}
NOTED = {"_refuse", "setdefault"}  # `_refuse(stream, reason)`, `reasons.setdefault(path, reason)`
# Functions that return a reason, and tables and attributes that hold some.
RETURNING = {
    "barrier", "clause", "explain", "why_heads_stay", "why_not_finite", "why_unfit",
    "why_units_stay", "why_whole",
}  # fmt: skip
TABLES = {"_CLAUSES", "_MIXING"}
ATTRIBUTES = {"why_not_pruned"}
FOLDERS = ("graph", "locate", "rules")


def messages() -> dict[str, str]:
    """Return every reason, with the file that gives it."""
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for file in sorted((PACKAGE / folder).glob("*.py")):
            module = ast.parse(file.read_text(encoding="utf-8"))
            for text in _of_module(module):
                found.setdefault(text, str(file.relative_to(PACKAGE)))
    return found


def _of_module(module: ast.Module) -> Iterator[str]:
    functions = [node for node in ast.walk(module) if isinstance(node, ast.FunctionDef)]
    for scope in [module, *functions]:
        for node in ast.walk(scope):
            for value in _reasons(node, scope):
                yield from _texts(value, scope, module)


def _reasons(node: ast.AST, scope: ast.AST) -> Iterator[ast.expr]:
    """Yield the expressions in a node that are reasons."""
    if isinstance(node, ast.Call) and node.args:
        name = ast.unparse(node.func).split(".")[-1]
        on_reasons = name == "_refuse" or "reasons" in ast.unparse(node.func)
        if name in RAISED:
            yield node.args[0]
        elif name in NOTED and on_reasons:
            yield node.args[-1]
    elif isinstance(node, ast.Return) and getattr(scope, "name", None) in RETURNING and node.value:
        yield node.value
    elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in map(ast.unparse, targets):
            if target in ATTRIBUTES or target.startswith("reasons["):
                yield node.value
            elif target in TABLES and isinstance(node.value, ast.Dict):
                yield from node.value.values


def _texts(
    value: ast.expr, scope: ast.AST, module: ast.Module, seen: frozenset[str] = frozenset()
) -> Iterator[str]:
    """Yield the texts that an expression can be; nothing for the results of calls.

    `seen` holds the variables that it comes from: `reason = reason or "..."` names itself.
    """
    if isinstance(value, ast.Constant) and isinstance(value.value, str):
        yield value.value
    elif isinstance(value, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in value.values
        )
    elif isinstance(value, ast.IfExp):
        yield from _texts(value.body, scope, module, seen)
        yield from _texts(value.orelse, scope, module, seen)
    elif isinstance(value, ast.BoolOp):
        for part in value.values:
            yield from _texts(part, scope, module, seen)
    elif isinstance(value, ast.Name) and value.id not in seen:
        for node in [*ast.walk(scope), *module.body]:
            if isinstance(node, ast.Assign) and value.id in map(ast.unparse, node.targets):
                yield from _texts(node.value, scope, module, seen | {value.id})
        yield from _given(value.id, scope, module)


def _given(name: str, function: ast.AST, module: ast.Module) -> Iterator[str]:
    """Yield the texts that a module passes to a function for one of its parameters."""
    if not isinstance(function, ast.FunctionDef):
        return
    names = [argument.arg for argument in function.args.args]
    for caller in ast.walk(module):
        if name not in names or not isinstance(caller, ast.FunctionDef) or caller is function:
            continue
        for node in ast.walk(caller):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == function.name:
                yield from _texts(node.args[names.index(name)], caller, module)
