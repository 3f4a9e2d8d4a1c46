"""A pool that grows by what users bring: the state takes the new rows in, instead of being built anew.

Annotators are never asked about users' prompts, so neither the urns nor the scores of pairs change.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from annotate.models import Project, Response
from learner.tasks.embedding import load_features

if TYPE_CHECKING:
    from annotate.models import FeatureVersion
    from learner.tasks.states import ProjectState

Floats = npt.NDArray[np.float32]
ROWS = [("prompt", np.int64), ("evaluation", np.bool_), ("users", np.bool_)]


def pool_rows(project: Project, start: int, stop: int) -> npt.NDArray[np.void]:
    """Prompt, whether it evaluates and whether a user brought it, for the response positions start to stop - 1."""
    rows = Response.objects.filter(project=project, position__gte=start, position__lt=stop).order_by(
        "position"
    )
    columns = ("prompt__position", "prompt__is_evaluation", "prompt__is_deployment")
    return np.fromiter(rows.values_list(*columns).iterator(chunk_size=20_000), dtype=ROWS, count=stop - start)


def take_in_users_rows(state: ProjectState, version: FeatureVersion) -> bool:
    """Append the rows that were embedded since; False if annotators may be asked about any of them."""
    old, new = len(state.prompt), version.embedded
    if new <= old or version.pk != state.version.pk:
        return new == old
    rows = pool_rows(state.project, old, new)
    if not rows["users"].all():
        return False
    state.buffer = room_for(state.reader.features, state.buffer, new)
    state.buffer[old:new] = load_features(version, range(old, new))
    state.reader.features = state.buffer[:new]
    state.prompt = np.append(state.prompt, rows["prompt"])
    state.evaluation = np.append(state.evaluation, rows["evaluation"])
    state.users = np.append(state.users, rows["users"])
    return True


def room_for(features: Floats, buffer: Floats | None, rows: int) -> Floats:
    """A writable array that begins with the features and has room for so many rows; a quarter more when it is made."""
    if buffer is not None and len(buffer) >= rows:
        return buffer
    larger = np.empty((rows + rows // 4 + 64, features.shape[1]), np.float32)
    larger[: len(features)] = features
    return larger
