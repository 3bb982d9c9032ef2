"""Commands of `billing`, one module each. `cli.main` registers them."""
