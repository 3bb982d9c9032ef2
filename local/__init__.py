"""The world without accounts: everything that `make run` starts on one machine."""
