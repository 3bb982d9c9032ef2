"""Whatever no other route takes."""

from billing.api.operation import unknown_route

handler = unknown_route
