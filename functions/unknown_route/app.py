"""`$default`: requests that no other route matches."""

from billing.api.pipeline import unknown_route

handler = unknown_route
