"""Every table of Touchstone, one module per group of nouns."""

from annotate.models.collection import Answer, Arm, Comparison, Judgment, Lease
from annotate.models.learning import Checkpoint, Estimator, Evaluation, FeatureVersion, SourceReward
from annotate.models.operations import AuditEvent, Heartbeat, Job
from annotate.models.people import Invitation, Membership, Role, User
from annotate.models.pool import Prompt, Response
from annotate.models.project import Project

__all__ = [
    "Answer",
    "Arm",
    "AuditEvent",
    "Checkpoint",
    "Comparison",
    "Estimator",
    "Evaluation",
    "FeatureVersion",
    "Heartbeat",
    "Invitation",
    "Job",
    "Judgment",
    "Lease",
    "Membership",
    "Project",
    "Prompt",
    "Response",
    "Role",
    "SourceReward",
    "User",
]
