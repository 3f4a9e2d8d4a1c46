"""Forms of project administration: explicit fields only, so nothing else can be assigned by what is sent."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.configuring import (
    LONGEST_GUIDELINES,
    RULE_NAMES,
    features_are_fixed,
    fingerprint,
    problems,
    that_fit,
)
from annotate.encoderform import FIELDS as ENCODER_FIELDS
from annotate.encoderform import EncoderForm
from annotate.models import Project, Role
from annotate.people import DAYS, MOST_AT_ONCE

if TYPE_CHECKING:
    from django.utils.functional import _StrPromise

    ProjectForm = forms.ModelForm[Project]
else:  # Django's own class takes no parameter.
    ProjectForm = forms.ModelForm

__all__ = [
    "RULE_NAMES",
    "AccountForm",
    "DeleteForm",
    "DuplicateForm",
    "InviteForm",
    "NewProjectForm",
    "RoleForm",
    "SettingsForm",
]

Choices = list[tuple[str, Any]]
RULES: Choices = [
    ("d_optimal", gettext_lazy("D-optimal: the pair that teaches the reward model most (recommended)")),
    ("max_uncertainty", gettext_lazy("Largest uncertainty: the pair whose difference is known least")),
    ("info_max", gettext_lazy("Information: the confidence interval that is widest after the sigmoid")),
    ("bald", gettext_lazy("BALD: most mutual information with the parameters")),
    ("entropy", gettext_lazy("Entropy: the pair whose answer is hardest to foresee")),
    ("best_worst", gettext_lazy("Best and worst: the highest and lowest reward of a prompt drawn at random")),
    ("delta_ucb", gettext_lazy("Delta UCB: the difference that may be largest")),
    ("drts", gettext_lazy("Double reversed Thompson sampling, within a prompt drawn at random")),
    ("max_min_lcb", gettext_lazy("MaxMin LCB: the response that is surely good, against its rival")),
    ("random", gettext_lazy("Random: no choice at all, every pair is as likely as another")),
]
HELP: dict[str, str | _StrPromise] = {
    "name": gettext_lazy("Seen by everybody in the project."),
    "question": gettext_lazy("What annotators are asked about every pair. One sentence, one criterion."),
    "guidelines": gettext_lazy(
        "Markdown. How to decide, with an example or two. Every change counts a new version of them."
    ),
    "allow_tie": gettext_lazy(
        "Annotators may say that both responses are equally good; it counts half for each."
    ),
    "allow_both_bad": gettext_lazy(
        "Annotators may say that neither response should be shown; it is kept, and trains nothing."
    ),
    "ask_strength": gettext_lazy("Annotators say how much better: slightly, better or much better."),
    "criteria": gettext_lazy(
        "One a line, such as “accuracy”: annotators may also compare by each of these. "
        "Only the answer to the question trains."
    ),
    "rule": gettext_lazy(
        "How the active arm chooses the next pair. A change holds from the next pair drawn."
    ),
    "norm_cap": gettext_lazy(
        "Only pairs whose feature difference is within this percentile of the pool are chosen actively. "
        "Without a cap, outliers are asked about first and teach little."
    ),
    "control_share": gettext_lazy(
        "Comparisons drawn at random that also train: what active choice is measured against. "
        "More of it gives an earlier verdict, less of it a better model meanwhile."
    ),
    "evaluation_share": gettext_lazy(
        "Comparisons on evaluation prompts, used only to measure and never to train."
    ),
    "evaluation_prompt_share": gettext_lazy(
        "Prompts set aside for evaluation when they are imported. A change holds for later imports only."
    ),
    "overlap": gettext_lazy("How many annotators judge a pair that was drawn for overlap."),
    "overlap_share": gettext_lazy(
        "Comparisons that several annotators judge, drawn at random: agreement and reliability come from these."
    ),
    "gold_share": gettext_lazy(
        "Pairs of each annotator that are gold: their answer is known, and they are told from no other pair."
    ),
    "weigh_by_reliability": gettext_lazy(
        "Judgments of annotators who agree less with others teach the reward model less. Holds from the next judgment."
    ),
    "training_pairs": gettext_lazy(
        "Gold pairs that every annotator answers before real work, with the known answer shown after each. 0: none."
    ),
    "training_pass": gettext_lazy(
        "Share of the training round to answer as known before real work; who falls short tries again. 0: any result."
    ),
    "annotator_limit": gettext_lazy("No one person gives more judgments than this. Empty: no limit."),
    "budget": gettext_lazy("No more pairs are handed out after this many judgments. Empty: no limit."),
    "lease_seconds": gettext_lazy(
        "How long a pair is kept for an annotator whose page is closed; it is extended while the page is open."
    ),
    "edit_minutes": gettext_lazy("How long annotators may change an answer; what it was before is kept."),
    "dimensions": gettext_lazy(
        "Principal components kept of its output. More can express more, and need more judgments."
    ),
}
SECTIONS: list[tuple[str | _StrPromise, tuple[str, ...]]] = [
    (gettext_lazy("Question"), ("name", "question", "guidelines")),
    (gettext_lazy("Answers"), ("allow_tie", "allow_both_bad", "ask_strength", "criteria")),
    (gettext_lazy("Choosing pairs"), ("rule", "norm_cap")),
    (gettext_lazy("Measuring"), ("control_share", "evaluation_share", "evaluation_prompt_share")),
    (gettext_lazy("Agreement"), ("overlap", "overlap_share", "weigh_by_reliability")),
    (gettext_lazy("Gold and training"), ("gold_share", "training_pairs", "training_pass")),
    (gettext_lazy("Limits"), ("budget", "annotator_limit", "lease_seconds", "edit_minutes")),
    (gettext_lazy("Features"), ("encoder", "encoder_name", "dimensions", *ENCODER_FIELDS[2:])),
]

OFFERED = tuple(name for _title, names in SECTIONS for name in names if name not in ENCODER_FIELDS)


class Lines(forms.CharField):
    """Names, one a line."""

    widget = forms.Textarea

    def prepare_value(self, value: Any) -> Any:
        return "\n".join(map(str, value)) if isinstance(value, list) else value

    def clean(self, value: Any) -> list[str]:
        return [line.strip() for line in super().clean(value).splitlines() if line.strip()]


class Percent(forms.FloatField):
    """A share, shown and typed in percent."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(min_value=0, max_value=100, step_size=None, **kwargs)

    def prepare_value(self, value: Any) -> Any:
        return f"{100 * value:.6g}" if isinstance(value, float) else value

    def clean(self, value: Any) -> float | None:
        percent = super().clean(value)
        return None if percent is None else round(percent / 100, 6)

    def has_changed(self, initial: Any, data: Any) -> bool:
        return super().has_changed(self.prepare_value(initial), data)


class SettingsForm(ProjectForm, EncoderForm):
    """Every setting of collection. Saving is the write path's: this checks, and explains."""

    seen = forms.CharField(widget=forms.HiddenInput)
    rule = forms.ChoiceField(label=gettext_lazy("Selection rule"), choices=RULES)
    norm_cap = Percent(label=gettext_lazy("Norm cap, percentile"))
    control_share = Percent(label=gettext_lazy("Control arm, %"))
    evaluation_share = Percent(label=gettext_lazy("Evaluation arm, %"))
    evaluation_prompt_share = Percent(label=gettext_lazy("Evaluation prompts, %"))
    overlap_share = Percent(label=gettext_lazy("Share of overlap, %"))
    gold_share = Percent(label=gettext_lazy("Gold pairs, %"))
    training_pass = Percent(label=gettext_lazy("Pass mark of the training round, %"))
    annotator_limit = forms.IntegerField(
        label=gettext_lazy("Limit for each annotator, judgments"),
        min_value=1,
        max_value=100_000_000,
        required=False,
    )
    budget = forms.IntegerField(
        label=gettext_lazy("Budget, judgments"), min_value=1, max_value=100_000_000, required=False
    )

    criteria = Lines(label=gettext_lazy("Criteria"), required=False, max_length=1_000)

    class Meta:
        model = Project
        fields = OFFERED
        labels = {
            "overlap": gettext_lazy("Annotators of an overlap pair"),
            "training_pairs": gettext_lazy("Pairs of the training round"),
            "weigh_by_reliability": gettext_lazy("Weigh by reliability"),
            "lease_seconds": gettext_lazy("Lease, seconds"),
            "edit_minutes": gettext_lazy("Time to edit, minutes"),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen_now = fingerprint(self.instance)
        self.initial["seen"] = self.seen_now
        for name, sentence in HELP.items():
            self.fields[name].help_text = sentence
        self.fields["guidelines"].widget.attrs |= {"rows": 10, "maxlength": LONGEST_GUIDELINES}
        self.fields["criteria"].widget.attrs |= {"rows": 3}
        self.show_encoder(self.instance.encoder, self.instance.encoder_options)
        if features_are_fixed(self.instance):
            for name in (*ENCODER_FIELDS, "dimensions"):
                self.fields[name].disabled = True

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        stored = Project.objects.get(pk=self.instance.pk)
        given = that_fit(stored, {name: cleaned[name] for name in OFFERED if name in cleaned})
        cleaned |= given
        for name, sentence in problems(stored, given).items():
            if name not in self.errors:
                self.add_error(name, sentence)
        if not features_are_fixed(stored):
            self.check_encoder()
        return cleaned

    def values(self) -> dict[str, Any]:
        """What was sent, for the write path."""
        name, options = self.encoder_given()
        own = {name: self.cleaned_data[name] for name in OFFERED}
        return own | {"encoder": name, "encoder_options": options}

    def sections(self) -> list[tuple[str | _StrPromise, list[forms.BoundField]]]:
        return [(title, [self[name] for name in names]) for title, names in SECTIONS]


class NewProjectForm(forms.Form):
    """The first step: a project that works, with nothing but a name."""

    name = forms.CharField(
        label=gettext_lazy("Name"), max_length=120, help_text=HELP["name"],
        widget=forms.TextInput(attrs={"autofocus": True}),
    )  # fmt: skip
    question = forms.CharField(
        label=gettext_lazy("Question"), max_length=300, help_text=HELP["question"],
        initial=gettext_lazy("Which response is better?"),
    )  # fmt: skip
    guidelines = forms.CharField(
        label=gettext_lazy("Guidelines"), required=False, max_length=LONGEST_GUIDELINES,
        help_text=gettext_lazy("Markdown, shown beside every pair. Can be written later."),
        widget=forms.Textarea(attrs={"rows": 6}),
    )  # fmt: skip
    allow_tie = forms.BooleanField(
        label=gettext_lazy("Allow ties"), required=False, initial=True, help_text=HELP["allow_tie"]
    )
    allow_both_bad = forms.BooleanField(
        label=gettext_lazy("Allow “both bad”"), required=False, initial=True, help_text=HELP["allow_both_bad"]
    )
    budget = forms.IntegerField(
        label=gettext_lazy("Budget, judgments"), min_value=1, max_value=100_000_000, required=False,
        help_text=gettext_lazy("No more pairs are handed out after this many. Empty: decide when you see the curve."),
    )  # fmt: skip


class InviteForm(forms.Form):
    """Whom to invite, and as what."""

    emails = forms.CharField(
        label=gettext_lazy("E-mail addresses"), required=False, max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 3, "placeholder": "ben@example.org, cho@example.org"}),
        help_text=gettext_lazy("One invitation each. Empty: one link for whoever you give it to."),
    )  # fmt: skip
    role = forms.ChoiceField(
        label=gettext_lazy("Role"), initial=Role.ANNOTATOR,
        choices=[
            (Role.ANNOTATOR, gettext_lazy("Annotator: compares")),
            (Role.REVIEWER, gettext_lazy("Reviewer: compares and sees the results")),
            (Role.ADMIN, gettext_lazy("Admin: everything, also inviting and deleting")),
        ],
    )  # fmt: skip
    days = forms.TypedChoiceField(
        label=gettext_lazy("Holds for"), coerce=int, initial=7,
        choices=list(zip(DAYS, (gettext_lazy("1 day"), gettext_lazy("7 days"), gettext_lazy("30 days")), strict=True)),
    )  # fmt: skip

    def clean_emails(self) -> list[str]:
        emails = [part for part in re.split(r"[\s,;]+", self.cleaned_data["emails"]) if part]
        if len(emails) > MOST_AT_ONCE:
            raise forms.ValidationError(_("At most {most} people at once.").format(most=MOST_AT_ONCE))
        for email in emails:
            forms.EmailField(
                error_messages={"invalid": _("{email} is not an e-mail address.").format(email=email[:80])}
            ).clean(email)
        return emails


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=Role.choices)


class DuplicateForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name of the copy"), max_length=120)
    people = forms.BooleanField(
        label=gettext_lazy("Copy the people"), required=False,
        help_text=gettext_lazy("Everybody keeps their role. Invitations are not copied."),
    )  # fmt: skip
    content = forms.BooleanField(
        label=gettext_lazy("Copy prompts and responses"), required=False,
        help_text=gettext_lazy("Without their judgments. Which prompts evaluate is drawn anew."),
    )  # fmt: skip


class DeleteForm(forms.Form):
    typed = forms.CharField(
        label=gettext_lazy("Address of the project"), max_length=80,
        widget=forms.TextInput(attrs={"autocomplete": "off", "autocapitalize": "off", "spellcheck": "false"}),
    )  # fmt: skip


class AccountForm(forms.Form):
    """An account for somebody who came with an invitation; an address the invitation names is not asked for."""

    username = forms.CharField(
        label=gettext_lazy("User name"), max_length=150,
        help_text=gettext_lazy("Seen by the admins of your projects."),
        widget=forms.TextInput(attrs={"autocomplete": "username", "autocapitalize": "off"}),
    )  # fmt: skip
    email = forms.EmailField(
        label=gettext_lazy("E-mail address"), max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "email"}),
    )  # fmt: skip
    password = forms.CharField(
        label=gettext_lazy("Password"), strip=False, max_length=1024,
        help_text=gettext_lazy("At least 10 characters."),
        widget=forms.PasswordInput(attrs={"autocomplete": "new-password"}),
    )  # fmt: skip

    def __init__(self, *args: Any, email: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if email:
            self.initial["email"] = email
            self.fields["email"].disabled = True
