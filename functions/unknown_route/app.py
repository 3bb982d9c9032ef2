"""Whatever no other route takes."""

from billing.endpoint import unknown_route

handler = unknown_route
