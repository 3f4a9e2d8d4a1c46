"""Forms of data that comes in and goes out: explicit fields only, so nothing else can be assigned by what is sent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.exporting import FORMATS, KINDS
from annotate.exporting.asking import WEIGHTS
from annotate.importing import Options
from annotate.models import Arm

ENDINGS = ".jsonl,.ndjson,.json,.csv,.tsv,.parquet,.gz"
MOST_COLUMNS = 200
COLUMNS = {
    "prompt": gettext_lazy("Prompt"),
    "responses": gettext_lazy("All responses, a list"),
    "response": gettext_lazy("One response a row"),
    "chosen": gettext_lazy("Chosen response"),
    "rejected": gettext_lazy("Rejected response"),
    "response_a": gettext_lazy("Response A"),
    "response_b": gettext_lazy("Response B"),
    "winner": gettext_lazy("Winner of A and B"),
    "annotator": gettext_lazy("Who voted"),
    "source": gettext_lazy("Source, the model"),
    "id": gettext_lazy("Id of the prompt"),
    "tags": gettext_lazy("Tags"),
    "gold": gettext_lazy("Whether the answer is known (gold)"),
}


class UploadForm(forms.Form):
    file = forms.FileField(
        label=gettext_lazy("File"), max_length=500, allow_empty_file=True,
        widget=forms.FileInput(attrs={"accept": ENDINGS}),
    )  # fmt: skip

    def clean_file(self) -> UploadedFile[bytes]:
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        if (file.size or 0) > settings.UPLOAD_LIMIT:
            raise forms.ValidationError(too_large())
        return file


def too_large() -> str:
    most = filesizeformat(settings.UPLOAD_LIMIT)
    return _("The file is larger than {most}. Cut it, or use the command import_data.").format(most=most)


class MappingForm(forms.Form):
    """How a file is read: which of its columns is which, and which number is a response's known worth."""

    utility_field = forms.CharField(
        label=gettext_lazy("Known worth of a response"), required=False, max_length=200,
        help_text=gettext_lazy(
            "The field of a response that says how good it is, for simulations and dry runs. Empty: “utility” or "
            "“quality”, where there is one."
        ),
    )  # fmt: skip
    utility_scale = forms.ChoiceField(
        label=gettext_lazy("It is"), initial="raw",
        choices=[
            ("raw", gettext_lazy("a utility: any number, more is better")),
            ("logit", gettext_lazy("a probability between 0 and 1")),
        ],
    )  # fmt: skip

    def __init__(self, *args: Any, columns: Sequence[str] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        theirs = [(name, name) for name in columns[:MOST_COLUMNS]]
        for ours, label in COLUMNS.items():
            as_named = [("", _("as in the file"))]
            self.fields[f"column_{ours}"] = forms.ChoiceField(
                label=label, required=False, choices=as_named + theirs
            )

    def columns(self) -> list[forms.BoundField]:
        return [self[f"column_{ours}"] for ours in COLUMNS]

    def arguments(self) -> dict[str, Any]:
        sent = self.cleaned_data
        chosen = {ours: sent[f"column_{ours}"] for ours in COLUMNS if sent[f"column_{ours}"]}
        return {
            "utility_field": sent["utility_field"],
            "utility_scale": sent["utility_scale"],
            "columns": chosen,
        }

    def options(self) -> Options:
        return Options(**self.arguments())


KIND_LABELS = {
    "trl": gettext_lazy("Preferences: prompt, chosen, rejected (TRL)"),
    "trl_conversational": gettext_lazy("The same, always as lists of messages"),
    "trl_implicit": gettext_lazy("Preferences with the prompt inside each side"),
    "trl_unpaired": gettext_lazy("Single responses, good or not (KTO)"),
    "votes": gettext_lazy("Every judgment, with how its pair was chosen"),
    "pool": gettext_lazy("Prompts with their responses, as an import reads them"),
}
FORMAT_LABELS = {"jsonl": "JSON Lines", "csv": "CSV", "parquet": "Parquet"}
WEIGHT_LABELS = {
    "majority": gettext_lazy("the majority: every vote counts the same"),
    "reliability": gettext_lazy("reliability: votes count by what is known of their annotator"),
}
SPLITS = [("train", gettext_lazy("train")), ("test", gettext_lazy("test (evaluation prompts)"))]


class ExportForm(forms.Form):
    """What to export: which rows, in which shape; all of it is part of a job's arguments."""

    kind = forms.ChoiceField(
        label=gettext_lazy("What"),
        initial="trl",
        choices=[(name, KIND_LABELS.get(name, name)) for name in KINDS],
    )
    format = forms.ChoiceField(
        label=gettext_lazy("Format"),
        initial="jsonl",
        choices=[(name, FORMAT_LABELS.get(name, name)) for name in FORMATS],
    )
    gzip = forms.BooleanField(label=gettext_lazy("Packed with gzip"), required=False)
    weigh = forms.ChoiceField(
        label=gettext_lazy("A label is decided by"), initial="majority",
        choices=[(name, WEIGHT_LABELS[name]) for name in WEIGHTS],
    )  # fmt: skip
    arms = forms.MultipleChoiceField(
        label=gettext_lazy("Arms"), required=False, choices=Arm.choices, widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None chosen: all."),
    )  # fmt: skip
    splits = forms.MultipleChoiceField(
        label=gettext_lazy("Split"), required=False, choices=SPLITS, widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("None chosen: both."),
    )  # fmt: skip
    tags = forms.CharField(
        label=gettext_lazy("Tags"), required=False, max_length=1_000,
        help_text=gettext_lazy("Prompts with at least one of these, separated by commas. Empty: all prompts."),
    )  # fmt: skip
    min_votes = forms.IntegerField(
        label=gettext_lazy("Votes at least"), initial=1, min_value=1, max_value=1_000
    )
    min_agreement = forms.FloatField(
        label=gettext_lazy("Agreement at least, %"), initial=0, min_value=0, max_value=100
    )
    since = forms.DateField(
        label=gettext_lazy("Judged since"), required=False,
        widget=forms.DateInput(attrs={"type": "date"}),
    )  # fmt: skip

    def clean_tags(self) -> list[str]:
        return [part for part in re.split(r"\s*,\s*", self.cleaned_data["tags"].strip()) if part][:50]

    def clean(self) -> dict[str, Any]:
        sent = super().clean() or self.cleaned_data
        if sent.get("gzip") and sent.get("format") == "parquet":
            self.add_error("gzip", _("Parquet is compressed already."))
        return sent

    def arguments(self) -> dict[str, Any]:
        """The request as a job keeps it, in the words that the API has for it too."""
        sent = self.cleaned_data
        same = ("kind", "format", "gzip", "weigh", "arms", "splits", "tags", "min_votes")
        since = datetime.combine(sent["since"], time(), UTC).isoformat() if sent["since"] else None
        return {name: sent[name] for name in same} | {
            "min_agreement": sent["min_agreement"] / 100,
            "since": since,
        }


class ScheduleForm(ExportForm):
    """The same every day or every week."""

    every = forms.ChoiceField(
        label=gettext_lazy("How often"), initial="daily",
        choices=[
            ("off", gettext_lazy("never")), ("daily", gettext_lazy("every day")), ("weekly", gettext_lazy("every week"))
        ],
    )  # fmt: skip
    keep = forms.IntegerField(
        label=gettext_lazy("Keep the last"), initial=7, min_value=1, max_value=366,
        help_text=gettext_lazy("Older ones are deleted."),
    )  # fmt: skip
