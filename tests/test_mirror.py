"""Two fronts, one text: without `async` and `await`, the asynchronous files are the synchronous ones.

What a reader of one front knows of the other is true because of this file. Everything that may differ stands in the
lists below, with its reason; keep them short.
"""

import ast
import difflib
import re
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest

import fairtouch

ROOT = Path(fairtouch.__file__).parent

# Names that say which front they belong to. They are words of code; in docstrings only what is listed below differs.
WORDS = {
    **{f"Async{name}": name for name in ("Governor", "Decider", "Deferrals")},
    **{f"Async{name}Register": f"{name}Register" for name in ("Consent", "Suppression", "Customer")},
    **{f"Async{name}": name for name in ("Store", "Iterator", "Iterable", "Generator")},
    "asynccontextmanager": "contextmanager",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "aclose": "close",  #    so that a store is one or the other by type
    "find_async_store": "find_store",
    "coroutine_sender": "plain_sender",  # who can send for a queue
    "AsyncSend": "Send",
    "_iter": "iter",  #      of iterables of both kinds
    "_islice": "islice",  #  the same
    "_unbound": "_store",  # the store itself; `await self._store()` is the store once it is bound
    "Opened": "Store",  #    what a register is handed: how to come by the store once it is bound
}

# Whole statements that only one front has; … stands for what is inside.
ONLY_SYNC = {
    "try:\n    self._move_in()\n…": "the async one binds its store at the first verb",
    "if inspect.iscoroutinefunction(send):\n…": "the async one guards nothing else",
    "self._store: Final = deferral_store(governor.premises.store)": "the async one binds its store at the first verb",
}
ONLY_ASYNC = {
    "asyncio.sleep(0)": "gives the event loop its turn in a loop over many, whether or not the store waits",
    "self._binding: Final = asyncio.Lock()": "the store is bound once, by whichever task comes first",
    "self._is_bound = False": "the same",
    "self._opened: Final = opened(governor.premises.store)": "the same, of a queue",
    "try:\n    self._store\n…": "`async with` binds the store, as the other's constructor does",
    "if not inspect.iscoroutinefunction(send):\n…": "a plain function cannot await",
    "if inspect.iscoroutinefunction(on_refused):\n…": "nobody would await what it returns",
}

# Functions and classes that only one module has, by their synchronous words; what both fronts need is imported from one
# of them.
ONLY_HERE = {
    "deciding": set(),
    "guarding": {"check_sender", "check_on_refused", "refuse"},
    "governor": set(),
    "deferral/queue": set(),
    "registers": {"evidence_of", "evidence_text", "check_wishes"},
    "integrations/recipients": {"Judged", "tell_of", "reply", "may_have_gone_out"},
    "deciding_async": {"iter", "islice"},
    "guarding_async": set(),
    "governor_async": {"_store"},
    "deferral/queue_async": {"_store"},
    "registers_async": set(),
    "integrations/recipients_async": set(),
}

# Whose docstrings differ: what a front is, and what it takes.
TOLD_OTHERWISE = {"Governor", "guard"}


class Synchronous(ast.NodeTransformer):
    """What an asynchronous file would be without an event loop."""

    def visit_Await(self, node: ast.Await) -> ast.AST:
        return self.visit(node.value)

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> ast.AST:
        return self.visit(ast.FunctionDef(**vars(node)))

    def visit_AsyncFor(self, node: ast.AsyncFor) -> ast.AST:
        return self.visit(ast.For(**vars(node)))

    def visit_AsyncWith(self, node: ast.AsyncWith) -> ast.AST:
        return self.visit(ast.With(**vars(node)))

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Name(WORDS.get(node.id, node.id), node.ctx)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        return ast.Attribute(self.visit(node.value), WORDS.get(node.attr, node.attr), node.ctx)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        node.name = WORDS.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.name = WORDS.get(node.name, node.name)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`finished(call, …)` is `call(…)` that nobody can cancel; `self._store()` is the store, bound."""
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Name(id="finished"), args=[call, *rest]):
                return ast.Call(call, rest, node.keywords)
            case ast.Call(func=ast.Attribute(attr="_store"), args=[], keywords=[]):
                return node.func
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """A coroutine's type is the type of what it returns."""
        if isinstance(node.value, ast.Name) and node.value.id == "Coroutine" and isinstance(node.slice, ast.Tuple):
            return self.visit(node.slice.elts[-1])
        return self.generic_visit(node)

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Iterables of both kinds are iterables."""
        self.generic_visit(node)
        return node.left if ast.dump(node.left) == ast.dump(node.right) else node


class Permitted(ast.NodeTransformer):
    """Takes out what may differ, and what says nothing: imports, and a body's `pass`."""

    def __init__(self, functions: Collection[str] = (), statements: Collection[str] = ()) -> None:
        self.functions, self.statements = functions, statements
        self.used: set[str] = set()

    def visit(self, node: ast.AST) -> ast.AST | None:
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Pass):
            return None
        if isinstance(node, ast.stmt) and (name := self.permitted(node)):
            self.used.add(name)
            return None
        return super().visit(node)

    def permitted(self, node: ast.stmt) -> str | None:
        """The name under which a statement is on the lists."""
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in self.functions:
            return node.name
        if isinstance(node, ast.FunctionDef):
            return None
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return None
        text = ast.unparse(node)
        return next(
            (one for one in self.statements if text == one or (one[-1] == "…" and text.startswith(one[:-1]))), None
        )

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """The same, of everything inside; a docstring that may differ is only there."""
        super().generic_visit(node)
        if isinstance(getattr(node, "body", None), list) and not node.body:
            node.body = [ast.Pass()]
        if getattr(node, "name", None) in TOLD_OTHERWISE and ast.get_docstring(node):
            node.body[0] = ast.Expr(ast.Constant("…"))
        return node


def read(module: str) -> ast.Module:
    """The module's tree."""
    return ast.parse((ROOT / f"{module}.py").read_text("utf-8"))


def text(module: str) -> tuple[list[str], set[str]]:
    """The lines of a module as a synchronous one, and which of the permitted differences it had."""
    tree, is_async = read(module), module.endswith("_async")
    permitted = Permitted(ONLY_HERE[module], ONLY_ASYNC if is_async else ONLY_SYNC)
    tree = permitted.visit(Synchronous().visit(tree) if is_async else tree)
    body = [node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    return ast.unparse(ast.Module(body, [])).splitlines(), permitted.used


TWINS = ["deciding", "deferral/queue", "guarding", "governor", "registers", "integrations/recipients"]


@pytest.mark.parametrize("module", TWINS)
def test_the_fronts_are_one_text(module):
    """Line for line, an asynchronous module is the synchronous one, awaited."""
    ours, _ = text(f"{module}_async")
    theirs, _ = text(module)
    assert [] == list(difflib.unified_diff(theirs, ours, module, f"{module}_async", lineterm="", n=2))


def test_nothing_is_permitted_that_is_not_used():
    """Every difference on the lists is there; one that went away leaves the list."""
    used = set().union(*(text(module)[1] for module in ONLY_HERE))
    assert set(ONLY_SYNC) | set(ONLY_ASYNC) | set().union(*ONLY_HERE.values()) == used


@pytest.mark.parametrize("module", TWINS)
def test_every_call_of_the_store_is_awaited(module):
    """No verb forgets to await its store, and none reaches the store before it is bound."""
    source = (ROOT / f"{module}_async.py").read_text("utf-8")
    opened = r"(?:\(await self\._store\(\)\)|\bstore)\.(\w+)\("
    called = re.findall(rf"(?:await|async for \w+ in) {opened}", source)
    unbound = re.findall(r"await self\._unbound\.(\w+)\(", source)
    theirs = re.findall(r"(?:self\._|\b)store\.(\w+)\(", (ROOT / f"{module}.py").read_text("utf-8"))
    assert called == re.findall(opened, source)
    assert sorted(theirs) == sorted(WORDS.get(verb, verb) for verb in called + unbound)
    assert {"bind", "complete_since", "aclose"} >= set(re.findall(r"self\._unbound\.(\w+)", source))


@pytest.mark.parametrize("module", ["guarding", "integrations/recipients"])
def test_every_call_of_the_governor_is_awaited(module):
    """Nothing around a governor forgets to await its verbs."""
    source = (ROOT / f"{module}_async.py").read_text("utf-8")
    verbs = r"\bgovernor\.(\w+)\("
    assert re.findall(rf"(?:await|async for \w+ in) {verbs}", source) == re.findall(verbs, source) != []


# Stores


def methods(tree: ast.Module, classes: set[str] | None = None) -> Iterator[ast.FunctionDef]:
    """The methods of the classes, in order, without their docstrings."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and (classes is None or node.name in classes):
            for method in node.body:
                if isinstance(method, ast.FunctionDef):
                    del method.body[: 1 if ast.get_docstring(method) else 0]
                    yield method


def deferral_port() -> list[ast.FunctionDef]:
    """What a store does that keeps deferred touches."""
    return list(methods(read("stores/deferral_port"), {"DeferralStore"}))


@pytest.mark.parametrize("module", ["stores/deferral_port_async", "stores/awaited_deferrals", "stores/redis_deferrals"])
def test_queues_have_the_same_verbs(module):
    """Name by name and argument by argument, who keeps deferred touches does what the port says, called or awaited."""
    found = [each for each in methods(Synchronous().visit(read(module))) if each.name != "__init__"]
    expected = signatures(deferral_port())
    assert expected * (len(found) // len(expected)) == signatures(found) != []


@pytest.mark.parametrize("module", ["stores/awaited_deferrals", "stores/redis_deferrals"])
def test_queues_hand_every_verb_on(module):
    """Each verb calls its namesake with all its arguments in their order."""
    for method in methods(Synchronous().visit(read(module))):
        arguments = ", ".join(argument.arg for argument in method.args.args[1:])
        body = ast.unparse(ast.Module(method.body, []))
        assert f".{method.name}({arguments})" in body or method.name == "__init__"


def port() -> list[ast.FunctionDef]:
    """What a store does."""
    return list(methods(read("stores/port"), {"Ledger", "Consents", "Suppressions", "Profiles", "Store"}))


def signatures(found: list[ast.FunctionDef]) -> list[str]:
    """Names, arguments and results."""
    return [f"{method.name}({ast.unparse(method.args)}) -> {ast.unparse(method.returns)}" for method in found]


@pytest.mark.parametrize("module", ["stores/port_async", "stores/awaited"])
def test_an_asynchronous_store_has_the_same_verbs(module):
    """Name by name and argument by argument, an asynchronous store is the synchronous one, awaited."""
    tree = Synchronous().visit(read(module))
    found = [method for method in methods(tree) if method.name != "_call"]
    assert signatures(port()) == signatures(found)


def test_an_awaited_store_hands_every_verb_on():
    """Each verb calls its namesake with all its arguments in their order."""
    tree = Synchronous().visit(read("stores/awaited"))
    bodies = {method.name: "\n".join(map(ast.unparse, method.body)) for method in methods(tree)}
    for method in port():
        arguments = ", ".join(argument.arg for argument in method.args.args[1:])
        call = f"self._call(lambda store: store.{method.name}({arguments}))"
        if method.name not in ("prune", "close"):
            assert f"return {call}" == bodies[method.name]
    assert bodies["prune"].startswith("steps = self._call(lambda store: store.prune(keep, now))\n")


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("await self._other()", "self._one()"),
        ("return await (await self._store()).a(1)", "return self._store.a(2)"),
        ("return 1", "self._tell()\nreturn 1"),
        ("await finished(self._a, 1)", "self._b(1)"),
    ],
)
def test_a_difference_is_noticed(ours, theirs):
    """What is not on the lists is a difference."""
    awaited = Permitted().visit(Synchronous().visit(ast.parse(ours)))
    assert ast.unparse(awaited) != ast.unparse(Permitted().visit(ast.parse(theirs)))
