"""The API documents that are served, each as data. Another contract is another file here, listed in `CONTRACTS`."""

from billing.contracts.account import ACCOUNT
from billing.contracts.contract import Contract
from billing.contracts.organization import ORGANIZATION
from billing.contracts.portal import PORTAL
from billing.contracts.subscription import SUBSCRIPTION
from billing.contracts.teams import TEAMS

CONTRACTS: tuple[Contract, ...] = (ACCOUNT, TEAMS, ORGANIZATION, SUBSCRIPTION, PORTAL)
