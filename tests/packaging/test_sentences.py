"""Tests read as sentences: each says in its docstring what is promised."""

import ast
from pathlib import Path


def test_every_test_states_its_promise(root: Path) -> None:
    """Each test function and method in tests/ has a docstring."""
    silent = [
        f"{path.relative_to(root)}:{node.lineno} {node.name}"
        for path in sorted((root / "tests").rglob("test_*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert silent == []
