"""Every table of Touchstone, one module per group of nouns."""

from annotate.models.collection import Answer, Arm, Comparison, Judgment, Lease, TrainingAnswer
from annotate.models.deployment import (
    Deployment,
    DeploymentRequest,
    Generation,
    Generator,
    PolicyReport,
    Scoring,
)
from annotate.models.learning import (
    Agreement,
    Checkpoint,
    EmbeddingShard,
    Estimator,
    Evaluation,
    FeatureVersion,
    Finding,
    Refit,
    Reliability,
    ResponseReward,
    SourceReward,
)
from annotate.models.operations import AuditEvent, Heartbeat, Job, Setback
from annotate.models.people import Invitation, Membership, Role, User
from annotate.models.pool import Prompt, Response
from annotate.models.programs import KeptAnswer, Token, Verb
from annotate.models.project import Project
from annotate.models.webhooks import Delivery, Endpoint, Event

__all__ = [
    "Agreement",
    "Answer",
    "Arm",
    "AuditEvent",
    "Checkpoint",
    "Comparison",
    "Delivery",
    "Deployment",
    "DeploymentRequest",
    "EmbeddingShard",
    "Endpoint",
    "Estimator",
    "Evaluation",
    "Event",
    "FeatureVersion",
    "Finding",
    "Generation",
    "Generator",
    "Heartbeat",
    "Invitation",
    "Job",
    "Judgment",
    "KeptAnswer",
    "Lease",
    "Membership",
    "PolicyReport",
    "Project",
    "Prompt",
    "Refit",
    "Reliability",
    "Response",
    "ResponseReward",
    "Role",
    "Scoring",
    "Setback",
    "SourceReward",
    "Token",
    "TrainingAnswer",
    "User",
    "Verb",
]
