"""Dry runs: ask for one, read what it found aloud, and take a rule over into the project's settings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate import configuring, jobs
from annotate.errors import TouchstoneError
from annotate.forms import RULES
from annotate.models import Arm, Job, Project, User
from annotate.progress.figures import Cell, Column, Figure

MOST_RULES = 5
FEWEST_VOTES = 100
METRICS = {"log-loss": ("log_loss", ".3f"), "accuracy": ("accuracy", "share")}


class DryRunForm(forms.Form):
    """Which rules, answered by what, for how many labels, how often."""

    use_required_attribute = False
    rules = forms.MultipleChoiceField(
        label=gettext_lazy("Rules to compare with random"),
        choices=[choice for choice in RULES if choice[0] != "random"],
        widget=forms.CheckboxSelectMultiple,
        initial=["d_optimal", "max_uncertainty"],
    )
    labels = forms.ChoiceField(label=gettext_lazy("Answers come from"))
    budget = forms.IntegerField(
        label=gettext_lazy("Labels for each rule"),
        initial=200,
        min_value=20,
        max_value=2000,
        help_text=gettext_lazy("20 to 2,000. No more than there are pairs with answers."),
    )
    seeds = forms.IntegerField(
        label=gettext_lazy("Seeds"),
        initial=5,
        min_value=1,
        max_value=20,
        help_text=gettext_lazy(
            "How often all is repeated; more of them give narrower intervals and take longer."
        ),
    )

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["labels"].choices = sources_of_labels(project)  # type: ignore[attr-defined]

    def clean_rules(self) -> list[str]:
        chosen = list(self.cleaned_data["rules"])
        if len(chosen) > MOST_RULES:
            raise forms.ValidationError(_("Choose at most %(n)d rules at once.") % {"n": MOST_RULES})
        return chosen


def sources_of_labels(project: Project) -> list[tuple[str, str]]:
    """What could answer in this project; nothing where there is too little."""
    current = project.judgments.filter(replaced_at=None).exclude(answer="both_bad")
    votes = current.exclude(comparison__arm=Arm.DEPLOYMENT)[: FEWEST_VOTES + 1].count()
    offers = []
    if votes >= FEWEST_VOTES:
        offers.append(("votes", _("the project’s judgments, made here or imported")))
    worth = project.responses.filter(utility__isnull=False).order_by()  # any will do: nothing is sorted
    if worth[:FEWEST_VOTES].count() >= FEWEST_VOTES:
        offers.append(("utility", _("the known worth of the responses (answers are drawn from it)")))
    return offers


def start(project: Project, actor: User, given: dict[str, Any]) -> Job:
    arguments = {name: given[name] for name in ("rules", "labels", "budget", "seeds")}
    return jobs.start(project, Job.Kind.DRY_RUN, arguments, actor)


def adopt(project: Project, actor: User, job: Job, rule: str) -> None:
    """Make a rule that was compared the project's; the audit log says where it came from."""
    if rule not in job.result.get("rules", {}):
        raise TouchstoneError(_("This dry run did not compare that rule."))
    if rule == project.rule:
        raise TouchstoneError(_("That is the project’s rule already."))
    subject = _("after dry run {number}").format(number=job.pk)
    configuring.change_settings(project, actor, {"rule": rule}, subject=subject)


# --- Reading it aloud ---------------------------------------------------------------------------------------------


def advice(result: dict[str, Any]) -> tuple[str, str]:
    """A tone and the recommendation, with its uncertainty."""
    found = result["advice"]
    value, low, high = (one if one is not None else float("nan") for one in found["gain"])
    size = {"rule": found["best"], "gain": f"{value:+.3f}", "low": f"{low:+.3f}", "high": f"{high:+.3f}"}
    if not found["rule"] and high < 0:
        return "warn", _(
            "No rule did better than random here: even the best, %(rule)s, was behind by %(gain)s of log-loss "
            "(%(low)s to %(high)s) on average while collecting."
        ) % turned(found["best"], value, low, high, sign="")
    if not found["rule"] and value < 0:
        return "open", _(
            "No rule can be told from random here. The best, %(rule)s, raised log-loss by %(gain)s on average while "
            "collecting, and anything from %(low)s to %(high)s fits."
        ) % turned(found["best"], value, low, high, sign="+")
    if not found["rule"]:
        return "open", _(
            "No rule can be told from random here. The best, %(rule)s, lowered log-loss by %(gain)s on average while "
            "collecting, and anything from %(low)s to %(high)s fits."
        ) % size
    text = (
        _(
            "%(rule)s is ahead of random: log-loss lower by %(gain)s (%(low)s to %(high)s) on average while collecting."
        )
        % size
    )
    if found["rivals"]:
        text += " " + _("It cannot be told from %(rivals)s.") % {"rivals": ", ".join(found["rivals"])}
    return "good", text


def turned(rule: str, value: float, low: float, high: float, sign: str) -> dict[str, str]:
    """A negative gain the other way round: by how much log-loss was higher than random's."""
    size = {"gain": f"{-value:.3f}", "low": f"{-high:{sign}.3f}", "high": f"{-low:{sign}.3f}"}
    return {"rule": rule, **size}


def warnings(job: Job) -> list[str]:
    """What the numbers do not show."""
    result, votes = job.result, job.arguments.get("labels") == "votes"
    found = [
        _(
            "People will not answer like the answers that are here: tired, new or fewer annotators change the curves."
        ),
        _("Intervals know this pool’s held-out prompts and these seeds, not another pool."),
        _("The features’ pipeline has seen the texts of held-out prompts, though none of their answers."),
    ]
    if votes:
        found.append(
            _(
                "Only pairs that were judged could be chosen (%(pairs)s); "
                "among all pairs a rule may do better or worse."
            )
            % {"pairs": f"{result['pairs']:,}"}
        )
    else:
        found.append(
            _(
                "Answers are drawn from the responses’ worth by the same model that learns: real ones are messier."
            )
        )
    if result["prompts"] < result["all_prompts"]:
        found.append(
            _("It ran on %(some)s of %(all)s prompts, drawn at random.")
            % {"some": f"{result['prompts']:,}", "all": f"{result['all_prompts']:,}"}
        )
    if worse := result["advice"]["worse"]:
        found.insert(0, _("Worse than random here: %(rules)s.") % {"rules": ", ".join(worse)})
    if result["seeds"] < 3:
        found.append(_("With fewer than three seeds, chance looks like a finding."))
    return found


def table(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every rule at the end of its budget, best first."""
    rows = []
    for rule, one in result["rules"].items():
        last = {name: one[name][-1] for name in ("log_loss", "accuracy", "gain", "saved")}
        uneven = is_uneven(last["gain"][0], last["saved"])
        rows.append(
            {"rule": rule, "count": one["counts"][-1], "area": one["area"], "is_uneven": uneven, **last}
        )
    return sorted(rows, key=lambda row: row["area"])


def is_uneven(gain: float | None, saved: list[Any]) -> bool:
    """Whether what a label is worth, read off smoothed curves, contradicts the loss at the end of the budget."""
    worth, *_limits, is_least = saved
    if gain is None or worth is None:
        return False
    return bool((gain > 0 and worth < 1) or (gain < 0 and (worth > 1 or is_least)))


def figure(project: Project, name: str) -> Figure | None:
    """``dry-run-12-log-loss``: a curve for every rule, with its interval."""
    _head, _sep, rest = name.partition("dry-run-")
    number, _sep, metric = rest.partition("-")
    if not number.isdecimal() or len(number) > 18 or metric not in METRICS:
        return None
    job = project.jobs.filter(pk=int(number), kind=Job.Kind.DRY_RUN).first()
    return curves(job, metric) if job is not None and job.result.get("rules") else None


def curves(job: Job, metric: str) -> Figure:
    key, form = METRICS[metric]
    rules = job.result["rules"]
    rows: tuple[tuple[Cell, ...], ...] = tuple(
        (rule, count, *limits)
        for rule, one in rules.items()
        for count, limits in zip(one["counts"], one[key], strict=True)
    )
    columns = (
        Column("rule", _("Rule")),
        Column("labels", _("Labels"), "count"),
        Column("value", _("Log-loss") if metric == "log-loss" else _("Accuracy"), form),
        Column("low", _("low"), form),
        Column("high", _("high"), form),
    )
    ends = ", ".join(f"{rule} {columns[2].show(one[key][-1][0])}" for rule, one in rules.items())
    alt = _("%(metric)s on held-out judgments against labels, by rule. At the end: %(ends)s.") % {
        "metric": columns[2].title,
        "ends": ends,
    }
    title = _("Log-loss: lower is better") if metric == "log-loss" else _("Accuracy: higher is better")
    return Figure(f"dry-run-{job.pk}-{metric}", title, alt, columns, rows, drawing="rules")


def newest(project: Project, most: int = 20) -> list[Job]:
    rows = project.jobs.filter(kind=Job.Kind.DRY_RUN).select_related("created_by").order_by("-id")
    return list(rows[:most])
