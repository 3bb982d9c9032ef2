"""HTTP API: credentials, rate limits, request parsing, contracts and OpenAPI documents."""
