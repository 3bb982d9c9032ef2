"""`billing`: the operator's command."""
