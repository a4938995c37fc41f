"""From a function's signature to a node type."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from nodegraph.giving import Lazy, ManyMark, Shown
from nodegraph.runtime import Context
from nodegraph.sockets import Choice, Range, Widget, type_name
from nodegraph.spec import REQUIRED, InputSpec, NodeSpec, OutputSpec


def read_signature(
    function: Callable[..., Any], *, output_names: Sequence[str] | None, **facts: Any
) -> NodeSpec:
    """The node type of a function, with the facts that its declaration gives. Raises TypeError where it makes none."""
    hints = typing.get_type_hints(function, include_extras=True)
    inputs: dict[str, InputSpec] = {}
    context: str | None = None
    kwargs = False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            kwargs = True
            continue
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            raise TypeError(f"{facts['name']}: *{parameter.name} cannot be a socket")
        if parameter.name not in hints:
            raise TypeError(f"{facts['name']}: parameter {parameter.name} has no type annotation")
        if hints[parameter.name] is Context:
            context = parameter.name
            continue
        inputs[parameter.name] = _input(
            facts["name"], parameter.name, hints[parameter.name], parameter.default
        )
    is_async = inspect.iscoroutinefunction(function)
    if not is_async and any(item.lazy for item in inputs.values()):
        raise TypeError(f"{facts['name']}: only an async node can take a Lazy input")
    lists = any(item.many for item in inputs.values())
    if facts["ahead"] and (is_async or lists or facts["output"] or facts["reads"]):
        raise TypeError(f"{facts['name']}: a node that runs ahead is a plain function of single values")
    if facts["foresee"] is not None:
        known = {*inputs, "runtime"}
        for item in inspect.signature(facts["foresee"]).parameters.values():
            if item.name not in known and item.kind is not inspect.Parameter.VAR_KEYWORD:
                raise TypeError(f"{facts['name']}: foresee takes {item.name!r}, which is no input")
    return NodeSpec(
        function=function,
        inputs=types.MappingProxyType(inputs),
        outputs=_outputs(facts["name"], hints.get("return"), output_names),
        description=inspect.getdoc(function) or "",
        is_async=is_async,
        takes_context=context,
        takes_kwargs=kwargs,
        module=function.__module__,
        **facts,
    )


def _input(node_name: str, name: str, hint: Any, default: Any) -> InputSpec:
    extras: list[Any] = []
    lazy = many = False
    while True:
        if typing.get_origin(hint) is Annotated:
            extras += hint.__metadata__
            hint = hint.__origin__
        elif typing.get_origin(hint) is Lazy:
            lazy = True
            (hint,) = typing.get_args(hint)
        elif typing.get_origin(hint) in (typing.Union, types.UnionType):
            members = [member for member in typing.get_args(hint) if member is not type(None)]
            if len(members) > 1:
                names = ",".join(_bare(node_name, name, member) for member in members)
                return _finish(name, names, default, extras, lazy, many)
            (hint,) = members
        else:
            break
    if any(isinstance(extra, ManyMark) for extra in extras):
        many = True
        (hint,) = typing.get_args(hint)
        return _finish(name, _input(node_name, name, hint, default).type, default, extras, lazy, many)
    if typing.get_origin(hint) is Literal and not any(isinstance(extra, Choice) for extra in extras):
        extras.append(Choice(tuple(str(option) for option in typing.get_args(hint))))
    return _finish(name, _bare(node_name, name, hint), default, extras, lazy, many)


def _bare(node_name: str, name: str, hint: Any) -> str:
    if typing.get_origin(hint) is Literal:
        return "COMBO"
    try:
        return type_name(hint)
    except TypeError as error:
        raise TypeError(f"{node_name}: parameter {name}: {error}") from error


def _finish(name: str, socket: str, default: Any, extras: list[Any], lazy: bool, many: bool) -> InputSpec:
    choice = next((extra for extra in extras if isinstance(extra, Choice)), None)
    return InputSpec(
        name=name,
        type="COMBO" if choice is not None else socket,
        default=default,
        range=next((extra for extra in extras if isinstance(extra, Range)), None),
        choice=choice,
        widget=next((extra for extra in extras if isinstance(extra, Widget)), Widget()),
        lazy=lazy,
        many=many,
    )


def _outputs(node_name: str, hint: Any, names: Sequence[str] | None) -> tuple[OutputSpec, ...]:
    if hint is None or hint is type(None) or hint is Shown:
        return ()
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        fields = typing.get_type_hints(hint, include_extras=True)
        members = [(field_name, fields[field_name]) for field_name in hint._fields]
    else:
        members = [("", hint)]
    found = []
    for field_name, member in members:
        spec = _input(node_name, "return", member, REQUIRED)
        found.append(OutputSpec(field_name or spec.type, spec.type, spec.many))
    if names is not None:
        if len(names) != len(found):
            raise TypeError(f"{node_name}: {len(names)} output names for {len(found)} outputs")
        found = [OutputSpec(new, old.type, old.many) for new, old in zip(names, found, strict=True)]
    return tuple(found)
