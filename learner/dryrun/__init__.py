"""Rules compared on data that already have answers: nobody is asked, and every rule gets the same terms.

`questions` makes the task (which pairs may be asked about, who answers, what is held out), `collecting` lets a rule
spend its budget, `comparing` reads the runs. The benchmarks and the site's dry runs both stand on this.
"""

from learner.dryrun.collecting import GRID, NEAR_DUPLICATE, NORM_CAP, Run, Settings, Task, Uniform, collect
from learner.dryrun.comparing import Outcome, Recommendation, compare, joined, recommend
from learner.dryrun.questions import Votes, drawn_answers, one_vote_a_pair, within_prompt

__all__ = [
    "GRID",
    "NEAR_DUPLICATE",
    "NORM_CAP",
    "Outcome",
    "Recommendation",
    "Run",
    "Settings",
    "Task",
    "Uniform",
    "Votes",
    "collect",
    "compare",
    "drawn_answers",
    "joined",
    "one_vote_a_pair",
    "recommend",
    "within_prompt",
]
