"""Forms of the deployment stage: how users are answered, and by which generators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django import forms
from django.utils.translation import gettext_lazy

from annotate import generating
from annotate.errors import TouchstoneError
from annotate.forms import Percent
from annotate.models import Deployment, Generator

if TYPE_CHECKING:
    DeploymentBase = forms.ModelForm[Deployment]
    GeneratorBase = forms.ModelForm[Generator]
else:
    DeploymentBase = GeneratorBase = forms.ModelForm

SETTINGS = ("is_on", "explores", "optimism", "baseline_share", "reveals_sources", "is_public")


class DeploymentForm(DeploymentBase):
    baseline_share = Percent(
        label=gettext_lazy("Share of the baselines, %"),
        help_text=gettext_lazy(
            "Requests answered by the simpler rules, drawn by lot, that Eq. 6 and 7 are measured against."
        ),
    )

    class Meta:
        model = Deployment
        fields = SETTINGS

    def values(self) -> dict[str, Any]:
        """What was sent, for the write path."""
        return {name: self.cleaned_data[name] for name in SETTINGS}


class GeneratorForm(GeneratorBase):
    """The key is written, never read back: an empty field keeps the one that is stored."""

    field_order = ("source", "kind", "model", "url", "key", "forget_key")

    key = forms.CharField(
        label=gettext_lazy("Key"), required=False, max_length=500, strip=True,
        widget=forms.PasswordInput(attrs={"autocomplete": "off"}),
        help_text=gettext_lazy("Stored encrypted and never shown again. Empty: as it is."),
    )  # fmt: skip
    url = forms.URLField(
        label=gettext_lazy("Address"), max_length=500, required=False, assume_scheme="https",
        help_text=gettext_lazy("Of the API, such as https://example.org/v1, at a host that the operator lists."),
    )  # fmt: skip
    forget_key = forms.BooleanField(label=gettext_lazy("Forget the stored key"), required=False)

    class Meta:
        model = Generator
        fields = (
            "source", "kind", "model", "url", "instructions", "samples", "temperature", "longest", "is_on",
        )  # fmt: skip
        widgets = {"instructions": forms.Textarea(attrs={"rows": 3})}
        help_texts = {
            "model": gettext_lazy(
                "As the endpoint names it; for a model on a worker, a folder of its models folder."
            ),
            "samples": gettext_lazy("Answers that it writes to each prompt."),
            "instructions": gettext_lazy("A system message before every prompt. May be empty."),
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.instance.sealed_key:
            del self.fields["forget_key"]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        try:
            generating.check(cleaned.get("kind", ""), cleaned.get("model", ""), cleaned.get("url", ""))
        except TouchstoneError as error:
            self.add_error("url" if cleaned.get("kind") == Generator.Kind.ENDPOINT else "model", str(error))
        return cleaned
