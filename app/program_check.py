"""Refuses a TorchScript program, before PyTorch opens it, that could do more than compute with its inputs.

Whoever can write to the bucket writes the manifest with its digests too, so these say only that a file arrived whole.
TorchScript can write files (aten::save), map them into memory (aten::from_file) and call every operator that a library
has registered. So a program may use the operators that exported networks use and some that do nothing but arithmetic,
may call methods by the names that exports have, and nothing else; its pickles may hold modules and tensors.
There are no loops either, so a program ends.
Not defended: a program may give wrong answers, take much memory, or exploit a fault of an operator on the list.
"""

import ast
import io

from app.program_archive import read_archive
from app.program_pickle import check_pickle
from preprocess.errors import ArtefactError

# fmt: off
EXPORTED = frozenset({
    "_convolution", "abs", "adaptive_avg_pool3d", "add", "add_", "amax", "avg_pool3d", "batch_norm", "cat", "clamp",
    "cosine_similarity", "div", "exp", "flatten", "flip", "floor_divide", "group_norm", "linear", "log", "matmul",
    "max_pool2d", "max_pool3d", "mean", "mul", "neg", "permute", "relu_", "reshape", "rsub", "sigmoid", "size",
    "slice", "split", "squeeze", "stack", "sub", "tanh", "tensor_split", "to", "unbind", "unflatten", "unsqueeze",
    "zeros_like",
})
"""What `interscan export` writes; `tests/app/test_program_check.py` exports every encoder and head and compares."""
ARITHMETIC = frozenset({
    "adaptive_avg_pool2d", "amin", "avg_pool2d", "bmm", "ceil", "chunk", "contiguous", "conv2d", "conv3d", "detach",
    "dim", "div_", "elu", "eq", "erf", "expand_as", "expm1", "floor", "full_like", "ge", "gelu", "gt", "hardtanh",
    "instance_norm", "isfinite", "layer_norm", "le", "leaky_relu", "len", "log1p", "log_softmax", "logical_and",
    "logical_not", "logical_or", "lt", "max_pool1d", "maximum", "minimum", "mul_", "ne", "norm", "numel",
    "ones_like", "pow", "reciprocal", "relu", "round", "rsqrt", "select", "sign", "silu", "softmax", "softplus",
    "sqrt", "square", "sub_", "sum", "t", "transpose", "view", "where",
})
"""Beside them: arithmetic on tensors that are there."""
# fmt: on
OPERATORS = frozenset(f"torch.{name}" for name in EXPORTED | ARITHMETIC) | {
    "ops.prim.NumToTensor",
    "ops.prim.RaiseException",
}  # fmt: skip
"""As TorchScript writes them: `torch.add` is aten::add, `ops.prim.NumToTensor` is prim::NumToTensor."""

_WORDS = frozenset({"annotate", "bool", "float", "getattr", "int", "unchecked_cast", "uninitialized"})
_METHODS = frozenset({"embed", "compare", "judge", "severity"})
_LANGUAGE = (
    *(ast.Module, ast.ClassDef, ast.FunctionDef, ast.arguments, ast.arg, ast.keyword),
    *(ast.Assign, ast.AnnAssign, ast.Return, ast.Expr, ast.If, ast.Pass),
    *(ast.Name, ast.Attribute, ast.Call, ast.Constant, ast.List, ast.Tuple, ast.Subscript, ast.IfExp),
    *(ast.UnaryOp, ast.unaryop, ast.BoolOp, ast.boolop, ast.BinOp, ast.operator, ast.Compare, ast.cmpop),
    *(ast.Load, ast.Store),
)
# torch.classes are classes of C++, of which some load libraries or talk to other machines.
_FOREIGN = ("__torch__.torch.classes", "torch.classes")


def checked_program(data: bytes, *, name: str) -> io.BytesIO:
    """The program as an archive that may be loaded: what was checked, packed anew.

        program = torch.jit.load(checked_program(data, name="model.ts"), map_location="cpu")

    Args:
        data: model.ts.
        name: how messages call it.

    Returns:
        An archive of the same code, pickles and weights, without debug information; twice the memory of the file.

    Raises:
        ArtefactError: no TorchScript archive, one that breaks the bounds of `read_archive`, a pickle that
            `check_pickle` refuses, or code that uses an operator outside of `OPERATORS`.
    """
    archive = read_archive(data, name=name)
    for pickle, folder in (("data.pkl", "data/"), ("constants.pkl", "constants/")):
        sizes = {key.removeprefix(folder): len(item) for key, item in archive.weights.items() if key.startswith(folder)}
        check_pickle(archive.pickles[pickle], sizes, name=f"{name}: {pickle}")
    for file in archive.code:
        check_code(archive.code[file], name=f"{name}: {file}")
    return archive.pack()


def check_code(source: str, *, name: str) -> None:
    r"""Refuse TorchScript source that names an operator outside of `OPERATORS`, whether it calls it or not.

        check_code("def forward(self: __torch__.M, x: Tensor) -> Tensor:\n  return torch.relu(x)", name="code.py")

    Args:
        source: one file of an archive's code, as `read_archive` gives it.
        name: how messages call it.

    Raises:
        ArtefactError: the operator, function or piece of language, its line, and what to do.
    """
    try:
        tree = ast.parse(source)
    # RecursionError and MemoryError: nested deeper than Python's parser goes.
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ArtefactError(f"{name} is not TorchScript; export the model again with interscan export") from error
    functions = {id(one): names for scope in ast.walk(tree) for one, names in _calls(scope)}
    inner = {id(one.value) for one in ast.walk(tree) if isinstance(one, ast.Attribute)}
    for node in ast.walk(tree):
        fault = _fault(node, is_inner=id(node) in inner, functions=functions.get(id(node), frozenset()))
        if fault:
            raise ArtefactError(
                f"{name}, line {getattr(node, 'lineno', 1)}: {fault}, which no exported network uses; load only "
                "artefacts of interscan export from a bucket whose writers you trust"
            )


def _calls(scope: ast.AST) -> list[tuple[ast.Call, frozenset[str]]]:
    """The calls within a function, each with the local names that stand for functions of the archive and nothing else.

    `_0 = __torch__.torch.nn.functional.adaptive_avg_pool3d` and then `_0(x, [2, 2, 2])` is how scripts call them.
    """
    if not isinstance(scope, ast.FunctionDef):
        return []
    functions, others = set[str](), {one.arg for one in ast.walk(scope) if isinstance(one, ast.arg)}
    bound = [one for one in ast.walk(scope) if isinstance(one, ast.Assign)]
    plain = {id(one.targets[0]) for one in bound if len(one.targets) == 1 and _path(one.value).startswith("__torch__.")}
    for one in ast.walk(scope):
        if isinstance(one, ast.Name) and isinstance(one.ctx, ast.Store):
            (functions if id(one) in plain else others).add(one.id)
    names = frozenset(functions - others)
    return [(one, names) for one in ast.walk(scope) if isinstance(one, ast.Call)]


def _fault(node: ast.AST, *, is_inner: bool, functions: frozenset[str]) -> str | None:
    """What is wrong with one node of the tree; None for nothing."""
    if not isinstance(node, _LANGUAGE):
        return f"the statement or expression {type(node).__name__}"
    if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.decorator_list:
        return "a decorator"
    if isinstance(node, ast.Constant) and not isinstance(node.value, str | int | float | None):
        return f"a constant of type {type(node.value).__name__}"
    if isinstance(node, ast.Name) and node.id in ("torch", "ops", "__torch__") and not is_inner:
        return f"the module {node.id} as a value"
    if isinstance(node, ast.Attribute) and not is_inner:
        path = _path(node)
        if path.startswith(("torch.", "ops.")) and path not in OPERATORS:
            return f"the operator {_operator(path)}"
        if f"{path}.".startswith(tuple(f"{one}." for one in _FOREIGN)):
            return f"the class {path[:80]} of a library"
    if isinstance(node, ast.Call):
        return _wrong_call(node, functions)
    return None


def _wrong_call(call: ast.Call, functions: frozenset[str]) -> str | None:
    if isinstance(call.func, ast.Name):
        return None if call.func.id in _WORDS | functions else f"the function {call.func.id[:80]}"
    if not isinstance(call.func, ast.Attribute):
        return "a call of what is neither an operator nor a method"
    path, method = _path(call.func), call.func.attr
    # Those of torch and ops were looked at where they are named.
    if path.startswith(("torch.", "ops.", "__torch__.")):
        return None
    # x.save(...) is aten::save where x is a tensor: a method goes by its name, whatever it is called on.
    is_known = method in _METHODS or method.removeprefix("forward").isdecimal() or method == "forward"
    return None if is_known else f"the method {method[:80]}"


def _path(node: ast.AST) -> str:
    """`torch.add` for an attribute of a name; an empty string for everything else."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) and parts else ""


def _operator(path: str) -> str:
    """`aten::save` for `torch.save`, `prim::x` for `ops.prim.x`, as PyTorch's messages name them."""
    space, _, operator = path.removeprefix("ops.").rpartition(".")
    return ("::".join(one for one in ("aten" if space == "torch" else space, operator) if one))[:80]
