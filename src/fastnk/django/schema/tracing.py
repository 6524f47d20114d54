"""What a `natural_key` method makes its key of, found by running it on a stand-in for a record.

The stand-in is an instance of the model whose fields hold opaque values that remember their path.
Whatever hands them on unchanged works, because it is real Python on a real instance; whatever
looks at one is refused, because it may do otherwise for another record. What is found is then held
beside the method itself on sample records: it may look in ways that cannot be refused, as `type()`.
Imports Django.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn, cast

from django.db import models
from django.db.models.base import ModelState

from fastnk.django.offline import without_databases
from fastnk.django.schema.describe import is_saved, plain_of, spelled_out, target_of
from fastnk.django.schema.samples import sample_value
from fastnk.errors import shorten
from fastnk.schema import KeyPart

MAX_HOPS = 16
"""A key that follows more relations than this takes in all ancestors of a tree."""

SAMPLES = 4
"""How many sample records a traced key has to hold for."""

_SAME_IN_KEY_AND_FIELD = (
    models.BooleanField,
    models.CharField,
    models.DateField,
    models.DecimalField,
    models.FilePathField,
    models.FloatField,
    models.GenericIPAddressField,
    models.IntegerField,
    models.TextField,
    models.TimeField,
    models.UUIDField,
)
"""Fields whose value Django writes in a natural key as it writes it among `fields`.

It does not for the others: a duration is ISO in a key and `1 00:00:00` in a field.
"""

_OTHER_TEXT = (models.DateTimeField, models.FloatField, models.TimeField)
"""Of those, the ones whose `str()` is not the text that a backup holds."""


class TraceError(Exception):
    """The key cannot be traced; the message goes on after "natural_key()"."""


def trace_natural_key(model: type[Any]) -> list[KeyPart] | None:
    """The key parts of `model`; `None` where it has no `natural_key` method, or one that returns
    an empty tuple, by which a subclass says that it has no natural key, or one that asks for what
    no instance has, as a mixin's does where the class does not name the fields, or one that hands
    on an instance of a model without natural key, which no backup can hold, or one that returns a
    single value, which Django reads as a pk.

    Raises `TraceError`. Asks the database nothing.
    """
    if not callable(getattr(model, "natural_key", None)):
        return None
    try:
        return _traced(model)
    except TraceError:
        if _makes_single_values(model):
            return None
        raise


def _traced(model: type[Any]) -> list[KeyPart] | None:
    run = _Run()
    try:
        result = run.natural_key_of(model)
    except Exception as error:
        if run.refusal is None and _is_in_vain(model, error, run.nullable):
            return None
        message = f"raises {type(error).__name__}: {shorten(str(error))}"
        raise TraceError(run.refusal or message) from error
    if run.refusal is not None:
        raise TraceError(run.refusal)
    if _has_instance(result) and all(_hands_on_instance(model, null) for null in run.nullable):
        return None
    key = _key(result)
    for null in run.nullable:
        if not _holds_without(model, key, null):
            raise TraceError(f'makes another key where "{null}" is null')
    for number in range(SAMPLES):
        _check_on_sample(model, key, number)
    return key or None


def _makes_single_values(model: type[Any]) -> bool:
    """Whether the method returns something that Django reads as a pk, and no list, for whatever
    record it returns anything."""
    whole = [_SampleRun(number) for number in range(SAMPLES)]
    if not all(_result_is(_is_single, run, model) for run in whole):
        return False
    nulls = {null for run in whole for null in run.nullable}
    return not any(_result_is(_is_many, _SampleRun(0, null), model) for null in nulls)


def _result_is(kind: Callable[[Any], bool], run: _Run, model: type[Any]) -> bool:
    """Whether the method returns such a value in a run, and does nothing that is refused."""
    try:
        result = run.natural_key_of(model)
    except Exception:
        return False
    return run.refusal is None and kind(result)


def _is_many(result: Any) -> bool:
    return hasattr(result, "__iter__") and not isinstance(result, str)


def _is_single(result: Any) -> bool:
    return not _is_many(result) and not isinstance(result, models.Model)


def _is_in_vain(model: type[Any], error: Exception, nullable: list[str]) -> bool:
    """Whether a method that raised `error` does so for every record, for want of an attribute.

    Nothing but nulls could have led it elsewhere, and nothing but `__init__` makes attributes.
    """
    asked = getattr(error, "obj", None)
    if not (isinstance(error, AttributeError) and issubclass(type(asked), models.Model)):
        return False
    runs = [partial(_Run(null).natural_key_of, model) for null in nullable]
    return all(map(_fails, [*runs, partial(_attribute_of_new, type(asked), str(error.name))]))


def _hands_on_instance(model: type[Any], null: str) -> bool:
    """Whether there is an instance in the key of a record where `null` is null."""
    return _result_is(_has_instance, _Run(null), model)


def _has_instance(part: Any) -> bool:
    if issubclass(type(part), tuple | list):
        return any(map(_has_instance, part))
    return issubclass(type(part), models.Model)


def _attribute_of_new(model: type[Any], name: str) -> Any:
    with without_databases(partial(_Run().refuse, "queries the database")):
        return getattr(model(), name)


def _fails(call: Callable[[], Any]) -> bool:
    try:
        call()
    except AttributeError:
        return True
    except Exception:
        return False
    return False


class _Run:
    """One execution of a method on a stand-in."""

    def __init__(self, null: str | None = None) -> None:
        self.null = null
        """The path of the one field that is null this time."""
        self.nullable: list[str] = []
        """The paths of all fields met so far that may be null."""
        self.refusal: str | None = None
        """The first thing refused: kept, because the method may catch the exception."""

    def refuse(self, what: str) -> NoReturn:
        self.refusal = self.refusal or what
        raise TraceError(self.refusal)

    def natural_key_of(self, model: type[Any]) -> Any:
        with without_databases(partial(self.refuse, "queries the database")):
            return spelled_out(_stand_in(model, (), self).natural_key())

    def value(self, origin: _Origin) -> Any:
        """What a field holds in this run."""
        return _Value(origin)


class _SampleRun(_Run):
    """One execution on a sample record."""

    def __init__(self, number: int, null: str | None = None) -> None:
        super().__init__(null)
        self._number = number
        self.values: dict[str, Any] = {}
        """All that the record, and those it refers to as far as they were asked for, hold."""

    def value(self, origin: _Origin) -> Any:
        value = sample_value(origin.field, origin.path, self._number)
        self.values[origin.path] = value
        return value


class _Origin(NamedTuple):
    """Where an opaque value comes from."""

    path: str
    field: Any
    """The plain field at the end of the path."""
    saved: bool
    """Whether a backup holds it."""
    run: _Run


def _origin(value: _Opaque) -> _Origin:
    return cast(_Origin, object.__getattribute__(value, "_origin"))


_LOOKS = {
    "tests the truth of": "bool",
    "compares": "eq ne lt le gt ge hash contains",
    "formats": "format repr mod rmod",
    "counts or takes apart": "len iter reversed getitem",
    "calculates with": "add radd sub rsub mul rmul truediv rtruediv floordiv rfloordiv divmod "
    "rdivmod pow rpow neg pos abs invert and rand or ror xor rxor lshift rlshift rshift rrshift",
    "converts": "int float complex index round trunc floor ceil bytes fspath",
    "calls": "call",
}
"""Special methods that look at a value, and what a method that needs them does."""


class _Opaque:
    """A value that refuses to be looked at, be it by a special method or by an attribute.

    `isinstance` is refused as well: it asks for `__class__` where the type does not answer.
    """

    _origin: _Origin

    def __getattribute__(self, name: str) -> Any:
        origin = _origin(self)
        what = "asks for the type of" if name == "__class__" else f"takes .{name} of"
        origin.run.refuse(f'{what} "{origin.path}"')


def _refusal(what: str) -> Callable[..., NoReturn]:
    def refuse(self: _Opaque, *_: Any, **__: Any) -> NoReturn:
        origin = _origin(self)
        origin.run.refuse(f'{what} "{origin.path}"')

    return refuse


for _what, _names in _LOOKS.items():
    for _name in _names.split():
        setattr(_Opaque, f"__{_name}__", _refusal(_what))


class _Value(_Opaque):
    """The value of a field as the database gives it."""

    def __init__(self, origin: _Origin) -> None:
        self._origin = origin

    def __str__(self) -> str:
        path, field, _, run = _origin(self)
        if not isinstance(field, _SAME_IN_KEY_AND_FIELD) or isinstance(field, _OTHER_TEXT):
            run.refuse(f'takes str() of "{path}", which is not how a backup spells it')
        return _Text(_origin(self), "str")

    def __getattribute__(self, name: str) -> Any:
        field = _origin(self).field
        if name == "isoformat" and isinstance(field, models.DateField | models.TimeField):
            return partial(_isoformat, _origin(self))
        return super().__getattribute__(name)


class _Text(_Opaque, str):
    """The text that a transform makes of a value. A string, because `str()` returns nothing else.

    It has `__new__` alone: `str()` calls the `__init__` of what `__str__` returned once more.
    """

    def __new__(cls, origin: _Origin, transform: str) -> _Text:
        path = f"{origin.path}|{transform}"
        text = super().__new__(cls, path)
        text._origin = origin._replace(path=path)
        return text

    def __str__(self) -> str:
        return self


def _isoformat(origin: _Origin, *args: Any, **kwargs: Any) -> _Text:
    if args or kwargs:
        origin.run.refuse(f'takes .isoformat() of "{origin.path}" with options')
    return _Text(origin, "isoformat")


def _stand_in(model: type[Any], prefix: tuple[str, ...], run: _Run) -> Any:
    """An instance of `model` at the end of the relations `prefix`, its fields opaque."""
    record = object.__new__(model)
    state = ModelState()
    state.adding = False
    state.fields_cache = _RelatedStandIns(model, prefix, run)
    record.__dict__["_state"] = state
    for field in model._meta.concrete_fields:
        path = "__".join((*prefix, *_route(model, field)))
        if field.null:
            run.nullable.append(path)
        record.__dict__[field.attname] = (
            None if path == run.null else _value(model, field, prefix, run)
        )
    return record


class _RelatedStandIns(dict[str, Any]):
    """Django's cache of the related instances of a stand-in, which makes them when asked."""

    def __init__(self, model: type[Any], prefix: tuple[str, ...], run: _Run) -> None:
        super().__init__()
        self._model = model
        self._prefix = prefix
        self._run = run

    def __missing__(self, name: str) -> Any:
        fields = [field for field in self._model._meta.concrete_fields if field.name == name]
        if not fields or not fields[0].is_relation:
            raise KeyError(name)
        route = (*self._prefix, *_route(self._model, fields[0]))
        if "__".join(route) == self._run.null:
            return None
        if len(route) > MAX_HOPS:
            self._run.refuse(
                f'follows more than {MAX_HOPS} relations ("{"__".join(route[:4])}__…"): '
                "the key of a tree has no fixed length"
            )
        if not is_saved(fields[0]):
            self._run.refuse(f'follows "{name}", which Django leaves out of backups')
        self[name] = _stand_in(target_of(fields[0]), route, self._run)
        return self[name]


def _value(model: type[Any], field: Any, prefix: tuple[str, ...], run: _Run) -> Any:
    plain = field
    while plain.is_relation:
        plain = plain.target_field
    path = "__".join((*prefix, *_value_route(model, field)))
    return run.value(_Origin(path, plain_of(plain), is_saved(field), run))


def _route(model: type[Any], field: Any) -> tuple[str, ...]:
    """The names that lead from `model` to its `field`: an inherited one stands in the parent."""
    concrete = model._meta.concrete_model
    if field.model._meta.concrete_model is concrete:
        return (field.name,)
    link = concrete._meta.get_ancestor_link(field.model)
    return (link.name, *_route(target_of(link), field))


def _value_route(model: type[Any], field: Any) -> tuple[str, ...]:
    """The names that lead from `model` to the plain value that `field` holds."""
    route = _route(model, field)
    if not field.is_relation:
        return route
    if field.primary_key:
        return (*route[:-1], "pk")
    return (*route, *_value_route(target_of(field), field.target_field))


def _key(result: Any) -> list[KeyPart]:
    if isinstance(result, _Opaque) or not isinstance(result, tuple | list):
        raise TraceError(f"returns {_described(result)}, not a tuple")
    return _parts(result) if result else []


def _parts(values: tuple[Any, ...] | list[Any]) -> list[KeyPart]:
    if not values:
        raise TraceError("returns an empty tuple")
    return [_part(value, number) for number, value in enumerate(values, 1)]


def _part(value: Any, number: int) -> KeyPart:
    if isinstance(value, _Opaque):
        return _spelled(value)
    if isinstance(value, tuple | list):
        return _parts(value)
    raise TraceError(
        f"returns {_described(value)} as part {number}, which is not the value of a field"
    )


def _spelled(value: _Opaque) -> str:
    path, field, saved, _ = _origin(value)
    if not saved:
        raise TraceError(f'returns "{path}", which Django leaves out of backups')
    if not isinstance(field, _SAME_IN_KEY_AND_FIELD):
        kind = type(field).__name__
        raise TraceError(
            f'returns "{path}", a {kind}, which may look different in a key and in a field'
        )
    return path


def _described(value: Any) -> str:
    if isinstance(value, _Opaque):
        return f'the value of "{_origin(value).path}"'
    if isinstance(value, models.Model):
        return f"an instance of {value._meta.label_lower}"
    if value is None or isinstance(value, str | int | float):
        return f"the constant {shorten(repr(value))}"
    return f"a {type(value).__name__}"


def _holds_without(model: type[Any], key: list[KeyPart], null: str) -> bool:
    """Whether `key` describes what the method returns for a record where `null` is null.

    `value is None` is the one look at a value that cannot be refused.
    """
    run = _Run(null)
    try:
        result = run.natural_key_of(model)
    except Exception:
        # A method that fails there makes no key at all, and conversion reports the null.
        return run.refusal is None
    return run.refusal is None and _agrees(key, result, null)


def _agrees(part: KeyPart, value: Any, null: str) -> bool:
    if isinstance(value, _Opaque):
        return _origin(value).path == part
    if isinstance(part, list):
        return (
            isinstance(value, tuple | list)
            and len(value) == len(part)
            and all(_agrees(*pair, null) for pair in zip(part, value, strict=True))
        )
    path, _, transform = part.partition("|")
    if path == null and transform == "str":
        return bool(value == "None")
    return value is None and (path == null or path.startswith(f"{null}__"))


def _check_on_sample(model: type[Any], key: list[KeyPart], number: int) -> None:
    run = _SampleRun(number)
    try:
        result = run.natural_key_of(model)
    except Exception as error:
        message = f"raises {type(error).__name__} for a sample record: {shorten(str(error))}"
        raise TraceError(run.refusal or message) from error
    if not _same(_on_sample(key, run.values), result):
        raise TraceError(
            f"does not hand on what it was traced to for a sample record: {shorten(repr(result))}"
        )


def _on_sample(part: KeyPart, values: dict[str, Any]) -> Any:
    """What a key part gives for the record that holds `values`."""
    if isinstance(part, list):
        return [_on_sample(inner, values) for inner in part]
    path, _, transform = part.partition("|")
    value = values.get(path)
    if transform == "isoformat" and value is not None:
        return value.isoformat()
    return str(value) if transform else value


def _same(expected: Any, result: Any) -> bool:
    if isinstance(expected, list):
        return (
            isinstance(result, tuple | list)
            and len(result) == len(expected)
            and all(_same(*pair) for pair in zip(expected, result, strict=True))
        )
    return type(expected) is type(result) and bool(expected == result)
