"""Small mistakes in a source text: what a tired person would write, one at a time.

Each mutant replaces the text of one node, so that what is shown is what somebody would have typed. Nothing is planted
where it could not be caught by running anything: in annotations, docstrings, imports and within f-strings.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

Swap = tuple[ast.AST, str]
"""A node, and the text that stands in its place."""

COMPARED: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
    ast.In: "not in", ast.NotIn: "in", ast.Is: "is not", ast.IsNot: "is",
}  # fmt: skip
WRITTEN: dict[type[ast.cmpop], str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=",
    ast.In: "in", ast.NotIn: "not in", ast.Is: "is", ast.IsNot: "is not",
}  # fmt: skip
COUNTED: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.FloorDiv: ast.Mult, ast.Div: ast.Mult,
}  # fmt: skip
NAMED = {"min": "max", "max": "min", "any": "all", "all": "any", "sorted": "list"}


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mistake. Before and after are the lines that it touches, without their indents."""

    module: str
    line: int
    before: str
    after: str
    text: str
    """The whole module with the mistake in it."""

    @property
    def name(self) -> tuple[str, str, str]:
        """What it is known by in the lists: line numbers drift."""
        return self.module, self.before, self.after


def plant(module: str, text: str) -> list[Mutant]:
    """Every mutant of a module that still compiles, in the order of the text, each once."""
    found: dict[tuple[int, str], Mutant] = {}
    for node, new in _swaps(ast.parse(text)):
        mutant = _replaced(module, text, node, new)
        if mutant.before != mutant.after and _compiles(mutant.text):
            found.setdefault((mutant.line, mutant.text), mutant)
    return sorted(found.values(), key=lambda mutant: mutant.line)


def sample(mutants: list[Mutant], number: int, seed: int) -> list[Mutant]:
    """So many of them, spread over the module: no line has a second before every line has a first."""
    rng = random.Random(f"{seed} {mutants[0].module if mutants else ''}")
    shuffled = rng.sample(mutants, len(mutants))
    turns: dict[int, int] = {}
    ranked = []
    for mutant in shuffled:
        turns[mutant.line] = turns.get(mutant.line, 0) + 1
        ranked.append((turns[mutant.line], mutant))
    chosen = [mutant for _, mutant in sorted(ranked, key=lambda pair: pair[0])][:number]
    return sorted(chosen, key=lambda mutant: (mutant.line, mutant.after))


def by_hand(module: str, text: str, before: str, after: str) -> Mutant:
    """A mutant that somebody wrote down. Raises LookupError where its text is not there exactly once."""
    if text.count(before) != 1:
        raise LookupError(f"{module}: {text.count(before)} times {before!r}")
    line = text[: text.index(before)].count("\n") + 1
    return Mutant(module, line, _flat(before), _flat(after), text.replace(before, after))


def _replaced(module: str, text: str, node: ast.AST, new: str) -> Mutant:
    lines = text.splitlines(keepends=True)
    first, last = node.lineno - 1, (node.end_lineno or node.lineno) - 1  # type: ignore[attr-defined]
    head = lines[first].encode()[: node.col_offset].decode()  # type: ignore[attr-defined]
    tail = lines[last].encode()[node.end_col_offset :].decode()  # type: ignore[attr-defined]
    changed = head + new + tail
    whole = "".join([*lines[:first], changed, *lines[last + 1 :]])
    return Mutant(module, first + 1, _flat("".join(lines[first : last + 1])), _flat(changed), whole)


def _flat(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _compiles(text: str) -> bool:
    try:
        compile(text, "mutant", "exec", dont_inherit=True)
    except (SyntaxError, ValueError):
        return False
    return True


def _swaps(tree: ast.AST) -> Iterator[Swap]:
    """Every node that can be got wrong, and how."""
    for node in _walk(tree):
        for kind, operator in OPERATORS:
            if isinstance(node, kind):
                yield from operator(node)


def _walk(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those where a mistake means nothing when the program runs."""
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if not isinstance(child, ast.AST) or isinstance(child, ast.JoinedStr | ast.Import | ast.ImportFrom):
                continue
            if _is_docstring(child) or _is_for_types(child):
                continue
            yield child
            yield from _walk(child)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _is_for_types(node: ast.AST) -> bool:
    """`if TYPE_CHECKING:`, and an alias of a type, which is written with a capital."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test) == "TYPE_CHECKING"
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False
    name = node.targets[0].id.lstrip("_")
    return name[:1].isupper() and not name.isupper()


# The operators


def _compare(node: ast.Compare) -> Iterator[Swap]:
    for n, operator in enumerate(node.ops):
        operators = [WRITTEN[type(one)] for one in node.ops]
        operators[n] = COMPARED[type(operator)]
        words = [ast.unparse(node.left)]
        for written, value in zip(operators, node.comparators, strict=True):
            words += [written, _wrapped(value)]
        yield node, f"({' '.join(words)})"


def _bool(node: ast.BoolOp) -> Iterator[Swap]:
    values = [_wrapped(value) for value in node.values]
    yield node, f"({(' or ' if isinstance(node.op, ast.And) else ' and ').join(values)})"
    joined = " and " if isinstance(node.op, ast.And) else " or "
    for n in range(len(values)):
        yield node, f"({joined.join(values[:n] + values[n + 1 :])})"


def _not(node: ast.UnaryOp) -> Iterator[Swap]:
    if isinstance(node.op, ast.Not | ast.USub):
        yield node, f"({ast.unparse(node.operand)})"


def _branch(node: ast.If | ast.While | ast.IfExp) -> Iterator[Swap]:
    if not isinstance(node.test, ast.Compare | ast.UnaryOp):
        yield node.test, f"(not ({ast.unparse(node.test)}))"


def _guard(node: ast.If) -> Iterator[Swap]:
    if not node.orelse:
        yield node.test, "False"


def _constant(node: ast.Constant) -> Iterator[Swap]:
    if isinstance(node.value, bool):
        yield node, str(not node.value)
    elif isinstance(node.value, int):
        yield node, str(node.value + 1)
    elif isinstance(node.value, float):
        yield node, str(node.value * 2 or 1.0)


def _binary(node: ast.BinOp) -> Iterator[Swap]:
    if type(node.op) in COUNTED and not any(isinstance(side, ast.JoinedStr) for side in (node.left, node.right)):
        yield node, f"({ast.unparse(ast.BinOp(node.left, COUNTED[type(node.op)](), node.right))})"


def _call(node: ast.Call) -> Iterator[Swap]:
    if isinstance(node.func, ast.Name) and node.func.id in NAMED:
        yield node.func, NAMED[node.func.id]
    same = isinstance(node.func, ast.Name) and node.func.id in ("min", "max")
    if len(node.args) == 2 and not same and not any(isinstance(argument, ast.Starred) for argument in node.args):
        yield node, ast.unparse(ast.Call(node.func, node.args[::-1], node.keywords))
    for n, keyword in enumerate(node.keywords):
        if keyword.arg is not None and isinstance(keyword.value, ast.Constant):
            yield node, ast.unparse(ast.Call(node.func, node.args, node.keywords[:n] + node.keywords[n + 1 :]))


def _elements(node: ast.List | ast.Tuple | ast.Set) -> Iterator[Swap]:
    """One element less; of tuples only where they are rows of words, as what has places would be no silent mistake."""
    if isinstance(node, ast.Tuple) and not all(isinstance(one, ast.Constant | ast.Starred) for one in node.elts):
        return
    if isinstance(getattr(node, "ctx", ast.Load()), ast.Load) and len(node.elts) > 1:
        for n in range(len(node.elts)):
            left = [*node.elts[:n], *node.elts[n + 1 :]]
            yield node, ast.unparse(ast.Set(left) if isinstance(node, ast.Set) else type(node)(left, ast.Load()))


def _statement(node: ast.stmt) -> Iterator[Swap]:
    """A statement that is left out, where that is no mere NameError."""
    kept = isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Attribute | ast.Subscript)
    if kept or isinstance(node, ast.AugAssign | ast.Expr | ast.Raise | ast.Continue | ast.Break | ast.Delete):
        yield node, "pass"
    elif isinstance(node, ast.Return) and node.value is not None and not _is_none(node.value):
        yield node, "return None"


def _is_none(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _wrapped(node: ast.AST) -> str:
    text = ast.unparse(node)
    return text if isinstance(node, ast.Name | ast.Attribute | ast.Constant | ast.Call) else f"({text})"


OPERATORS: tuple[tuple[type[ast.AST] | tuple[type[ast.AST], ...], Callable[..., Iterable[Swap]]], ...] = (
    (ast.Compare, _compare),
    (ast.BoolOp, _bool),
    (ast.UnaryOp, _not),
    ((ast.If, ast.While, ast.IfExp), _branch),
    (ast.If, _guard),
    (ast.Constant, _constant),
    (ast.BinOp, _binary),
    (ast.Call, _call),
    ((ast.List, ast.Tuple, ast.Set), _elements),
    (ast.stmt, _statement),
)
