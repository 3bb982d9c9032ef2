"""Contracts: the API documents that are served, as data. A new contract is a module here and a line in `CONTRACTS`."""

from billing.api.contracts.account_api import ACCOUNT
from billing.api.contracts.contract import Contract
from billing.api.contracts.organization_api import ORGANIZATION
from billing.api.contracts.portal_api import PORTAL
from billing.api.contracts.subscription_api import SUBSCRIPTION
from billing.api.contracts.teams_api import TEAMS

CONTRACTS: tuple[Contract, ...] = (ACCOUNT, TEAMS, ORGANIZATION, SUBSCRIPTION, PORTAL)
