"""Field types of the requests that create and change webhook endpoints."""

from typing import Annotated

from pydantic import Field

from billing.api.webhook_schemas import SUBSCRIBABLE_EVENTS

EventType = Annotated[str, Field(json_schema_extra={"enum": SUBSCRIBABLE_EVENTS})]
EventTypes = Annotated[list[EventType], Field(min_length=1)]
Description = Annotated[str, Field(max_length=500)]
