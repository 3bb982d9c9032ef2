"""The `billing` command for operators of a deployment."""
