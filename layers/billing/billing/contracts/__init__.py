"""The API documents that are served, each as data. Another contract is another file here, listed in `CONTRACTS`."""

from billing.contracts.account import ACCOUNT
from billing.contracts.contract import Contract

CONTRACTS: tuple[Contract, ...] = (ACCOUNT,)
