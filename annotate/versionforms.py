"""Forms of the model page: a new feature version, and fine-tuning an encoder."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.encoderform import EncoderForm
from annotate.encoders import AS_THEY_ARE, OPTIONS
from annotate.models import FeatureVersion, Project


class VersionForm(EncoderForm):
    """Encoder and feature pipeline of a version that is built beside the live one."""

    label = forms.CharField(
        label=gettext_lazy("Name"), required=False, max_length=120,
        help_text=gettext_lazy("What this page calls it. Empty: the encoder's name."),
    )  # fmt: skip
    dimensions = forms.IntegerField(
        label=gettext_lazy("Feature dimensions"), min_value=2, max_value=8192,
        help_text=gettext_lazy(
            "Principal components kept of the encoder's output. More can express more, and need more judgments."
        ),
    )  # fmt: skip
    columns = forms.BooleanField(
        label=gettext_lazy("Text columns"), required=False,
        help_text=gettext_lazy(
            "Also use the length and the formatting of a response, which encoders hardly see. Without them the "
            "reward model can leave as a standard sequence classifier."
        ),
    )  # fmt: skip
    column_weight = forms.FloatField(
        label=gettext_lazy("Weight of the text columns"), min_value=0.1, max_value=100, initial=8,
        help_text=gettext_lazy("How far they are trusted beforehand, against a principal component's 1."),
    )  # fmt: skip

    def __init__(self, *args: Any, live: FeatureVersion, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        config = live.config
        self.show_encoder(live.encoder, chosen(live))
        self.initial.update(
            {
                "dimensions": config.get("dimensions", 32),
                "columns": config.get("columns", True),
                "column_weight": config.get("column_weight", 8),
            }
        )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        self.given = self.check_encoder()
        return cleaned

    def config(self) -> dict[str, Any]:
        data = self.cleaned_data
        return {
            "dimensions": data["dimensions"],
            "columns": data["columns"],
            "column_weight": data["column_weight"],
            "encoder_options": self.given[1],
        }


def chosen(live: FeatureVersion) -> dict[str, Any]:
    """Options as somebody would choose them; what a worker pinned (revision, precision) is left open again."""
    if live.encoder in AS_THEY_ARE:
        return {}
    options = live.config.get("encoder_options") or {}
    return {
        name: value
        for name, value in options.items()
        if name in OPTIONS and name not in ("revision", "dtype")
    }


METHODS = [
    ("lora", gettext_lazy("LoRA adapter: small matrices beside every layer, merged afterwards")),
    ("layers", gettext_lazy("The last layers of the encoder themselves")),
]
OPTIMIZERS = [
    ("adamw", gettext_lazy("AdamW")),
    ("hessian_free", gettext_lazy("Algorithm 5: Hessian-vector products with conjugate gradients; slow")),
]


class FineTuneForm(forms.Form):
    """How the encoder of the live version is trained on the judgments."""

    method = forms.ChoiceField(label=gettext_lazy("What is trained"), choices=METHODS, initial="lora")
    layers = forms.IntegerField(
        label=gettext_lazy("Layers"), min_value=1, max_value=200, initial=2,
        help_text=gettext_lazy("How many of the last layers are trained, where they are trained themselves."),
    )  # fmt: skip
    rank = forms.IntegerField(
        label=gettext_lazy("Rank of the adapter"), min_value=1, max_value=256, initial=8,
    )  # fmt: skip
    optimizer = forms.ChoiceField(label=gettext_lazy("Optimizer"), choices=OPTIMIZERS, initial="adamw")
    learning_rate = forms.FloatField(
        label=gettext_lazy("Learning rate"), min_value=1e-7, max_value=1, initial=1e-4,
        help_text=gettext_lazy("Of AdamW."),
    )  # fmt: skip
    epochs = forms.IntegerField(
        label=gettext_lazy("Most epochs"), min_value=1, max_value=100, initial=5,
        help_text=gettext_lazy("It stops earlier when the validation log-loss no longer falls."),
    )  # fmt: skip
    batch = forms.IntegerField(
        label=gettext_lazy("Judgments a batch"), min_value=1, max_value=1024, initial=16
    )  # fmt: skip
    seed = forms.IntegerField(label=gettext_lazy("Seed"), min_value=0, max_value=2**31 - 1, initial=0)

    def __init__(self, *args: Any, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.project = project

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        live = self.project.feature_versions.filter(state="live").first()
        if live is None or live.encoder == "hashing":
            raise forms.ValidationError(
                _("The live version's encoder is not a transformer: there is nothing to train.")
            )
        return cleaned
