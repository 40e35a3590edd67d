"""Checks of settings, so that every refusal names the value, what is allowed and the fix."""

from __future__ import annotations

from semantic_codec.errors import ConfigError


def number(where: str, value: object, low: float, high: float, *, unit: str = "", fix: str = "") -> float:
    """`value` as a float within [low, high]; ConfigError for anything else, NaN and booleans included."""
    allowed = f"a number from {low:g} to {high:g}{' ' + unit if unit else ''}"
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{where} is {value!r}", allowed=allowed, fix=fix or "give a value in this range")
    return float(value)


def whole(where: str, value: object, low: int, high: int, *, fix: str = "") -> int:
    """`value` as an int within [low, high]; ConfigError for anything else, booleans included."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ConfigError(
            f"{where} is {value!r}",
            allowed=f"a whole number from {low} to {high}",
            fix=fix or "give a value in this range",
        )
    return value


def one_of(where: str, value: object, choices: tuple[str, ...]) -> str:
    """`value` if it is one of `choices`, else ConfigError."""
    if value not in choices:
        raise ConfigError(f"{where} is {value!r}", allowed=", ".join(choices), fix="use one of these names")
    return value


def truth(where: str, value: object) -> bool:
    """`value` if it is true or false, else ConfigError."""
    if not isinstance(value, bool):
        raise ConfigError(f"{where} is {value!r}", allowed="true or false", fix="write it without quotes")
    return value
