"""Client of Touchstone's API, sync and async.

>>> from touchstone_client import Client
>>> client = Client("http://localhost:8000", token="tst_…")  # doctest: +SKIP
>>> client.score("my-project", [("Why is the sea salt?", "Rivers bring it.")])  # doctest: +SKIP
"""

from touchstone_client.aio import AsyncClient
from touchstone_client.client import Client
from touchstone_client.errors import ApiError, Failed, TouchstoneClientError, Unreachable
from touchstone_client.local import RewardModel
from touchstone_client.models import (
    Added,
    Best,
    Job,
    Judgment,
    LabelEfficiency,
    Learning,
    Lease,
    Next,
    Project,
    Prompt,
    Reward,
    ServedRequest,
)
from touchstone_client.rewards import RewardFunction, best_of_n
from touchstone_client.sending import Retries

__all__ = [
    "Added",
    "ApiError",
    "AsyncClient",
    "Best",
    "Client",
    "Failed",
    "Job",
    "Judgment",
    "LabelEfficiency",
    "Learning",
    "Lease",
    "Next",
    "Project",
    "Prompt",
    "Retries",
    "Reward",
    "RewardFunction",
    "RewardModel",
    "ServedRequest",
    "TouchstoneClientError",
    "Unreachable",
    "best_of_n",
]
