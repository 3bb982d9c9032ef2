"""Metadata by which `billing setup` finds its deployment's own objects in Stripe."""

from dataclasses import dataclass
from typing import Any

from billing.stripe_events.objects import DEPLOYMENT_KEY
from cli.setup_report import includes

FORMER_METADATA_KEY = "serverless_billing"
"""Metadata key with the stack's name, which setup wrote before version 0.3.0."""


@dataclass(frozen=True, slots=True)
class OwnMetadata:
    """Metadata of a deployment's portal configurations and webhook endpoint.

    Attributes:
        deployment_id: Id of the deployment.
        stack_name: Name of its stack, which identifies objects of earlier versions.
    """

    deployment_id: str
    stack_name: str

    @property
    def wanted(self) -> dict[str, str]:
        """Metadata that setup writes."""
        return {DEPLOYMENT_KEY: self.deployment_id}

    @property
    def update(self) -> dict[str, str]:
        """Metadata of an update, which also removes the key of earlier versions."""
        return {**self.wanted, FORMER_METADATA_KEY: ""}

    def matches(self, metadata: Any) -> bool:  # noqa: ANN401 - the SDK's own type for metadata differs
        """Return True if an object with this metadata belongs to the deployment."""
        stored = metadata.to_dict() if metadata is not None else {}
        if DEPLOYMENT_KEY in stored:
            return includes(stored, self.wanted)
        return includes(stored, {FORMER_METADATA_KEY: self.stack_name})

    def excludes(self, metadata: Any) -> bool:  # noqa: ANN401 - the SDK's own type for metadata differs
        """Return True if an object's metadata names another deployment."""
        stored = metadata.to_dict() if metadata is not None else {}
        return (stored.get(DEPLOYMENT_KEY) or self.deployment_id) != self.deployment_id
