"""Base class and field types of request models. Only functions that read a request body or query import pydantic."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from billing.domain.errors import Problem, RequestInvalid

MEASURED_MAX = 10**12
"""Largest value of a measurement: sums of thousands of them stay below 2**53, which JSON parsers represent exactly."""

MESSAGES = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "model_type": "Input should be an object",
}
"""Messages by pydantic's error type, where pydantic's own message is about Python instead of JSON."""


def _integral_float(value: object) -> object:
    """Convert 1.0 to 1: JSON does not distinguish them, and neither does JSON Schema."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _decimal_digits(value: object) -> object:
    """Convert the canonical decimal form of an integer, as a query string contains it."""
    canonical = re.fullmatch(r"0|-?[1-9][0-9]{0,17}", value, re.ASCII) if isinstance(value, str) else None
    return int(canonical[0]) if canonical else value


JsonInteger = Annotated[int, BeforeValidator(_integral_float)]
QueryInteger = Annotated[int, BeforeValidator(_decimal_digits)]
Text = Annotated[str, Field(min_length=1, max_length=2048)]
Cursor = Annotated[str, Field(min_length=1, max_length=512)]


class RequestModel(BaseModel):
    """Strict model: no coercion, no unknown fields."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @classmethod
    def parse(cls, received: Mapping[str, Any], *, from_strings: bool) -> Self:
        """Validate the fields of a request.

        Args:
            received: Values by field name.
            from_strings: The values are strings of a query.

        Raises:
            RequestInvalid: With one problem for each invalid field.
        """
        try:
            return cls.model_validate_strings(received) if from_strings else cls.model_validate(received)
        except ValidationError as error:
            problems = [
                Problem(".".join(map(str, each["loc"])), MESSAGES.get(each["type"], each["msg"]))
                for each in error.errors()
            ]
        raise RequestInvalid(problems)
