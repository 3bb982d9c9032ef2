"""`$default`: requests that no other route matches."""

from billing.api.operation import unknown_route

handler = unknown_route
