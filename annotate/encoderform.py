"""The fields of a form that ask for an encoder and its options; used by the settings and by new feature versions."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotate.encoders import LONGEST, NAMES, OPTIONS, SHORTEST, problems

OTHER = "other"
OFFERED: list[tuple[str, Any]] = [
    ("all-MiniLM-L6-v2", gettext_lazy("all-MiniLM-L6-v2: ships with Touchstone, runs anywhere")),
    ("hashing", gettext_lazy("hashing: counts of letter groups; instant, for tests and comparison")),
    ("Qwen/Qwen2.5-7B-Instruct", gettext_lazy("Qwen2.5 7B Instruct: needs a GPU worker")),
    ("meta-llama/Meta-Llama-3-8B-Instruct", gettext_lazy("Llama 3 8B Instruct: needs a GPU worker")),
    (OTHER, gettext_lazy("Another model, named below")),
]
OWN: tuple[str, Any] = ("", gettext_lazy("As the encoder has it"))
YES_OR_NO = [OWN, ("yes", gettext_lazy("Yes")), ("no", gettext_lazy("No"))]
FIELDS = ("encoder", "encoder_name", *OPTIONS)


class EncoderForm(forms.Form):
    """Which encoder, and how; what is left empty is the encoder's own choice."""

    encoder = forms.ChoiceField(
        label=gettext_lazy("Encoder"), choices=OFFERED,
        help_text=gettext_lazy("The model that turns prompt and response into numbers."),
    )  # fmt: skip
    encoder_name = forms.CharField(
        label=gettext_lazy("Model"), required=False, max_length=193,
        help_text=gettext_lazy(
            "For another model only: owner/model on the hub, or models/NAME for a folder of the models folder. "
            "Safetensors weights only; code that comes with a model is never run."
        ),
    )  # fmt: skip
    pooling = forms.ChoiceField(
        label=gettext_lazy("Pooling"), required=False,
        choices=[
            OWN,
            ("mean", gettext_lazy("Mean of all tokens")),
            ("cls", gettext_lazy("First token (cls)")),
            ("last", gettext_lazy("Last token, for causal models")),
        ],
        help_text=gettext_lazy("How the last hidden layer becomes one vector."),
    )  # fmt: skip
    max_length = forms.IntegerField(
        label=gettext_lazy("Longest text, tokens"), required=False, min_value=SHORTEST, max_value=LONGEST,
        help_text=gettext_lazy("What is longer is cut. Empty: as the encoder has it."),
    )  # fmt: skip
    dtype = forms.ChoiceField(
        label=gettext_lazy("Precision"), required=False,
        choices=[OWN, ("bfloat16", "bfloat16"), ("float16", "float16"), ("float32", "float32")],
        help_text=gettext_lazy("The encoder's own: bfloat16 where the processor or GPU has it, else float32."),
    )  # fmt: skip
    chat_template = forms.ChoiceField(
        label=gettext_lazy("Chat template"), required=False, choices=YES_OR_NO,
        help_text=gettext_lazy("Write prompt and response as a conversation, as instruct models know it."),
    )  # fmt: skip
    normalize = forms.ChoiceField(
        label=gettext_lazy("Length 1"), required=False, choices=YES_OR_NO,
        help_text=gettext_lazy("Scale every vector to length 1."),
    )  # fmt: skip
    revision = forms.CharField(
        label=gettext_lazy("Revision"), required=False, max_length=100,
        help_text=gettext_lazy(
            "Commit, tag or branch on the hub. Empty: the newest; its commit is kept and used from then on."
        ),
    )  # fmt: skip

    def show_encoder(self, name: str, options: dict[str, Any]) -> None:
        """Start from an encoder and its options."""
        offered = name in NAMES
        self.initial["encoder"], self.initial["encoder_name"] = (name, "") if offered else (OTHER, name)
        for option in OPTIONS:
            value = options.get(option, "")
            self.initial[option] = ("yes" if value else "no") if isinstance(value, bool) else value

    def chose_options(self) -> bool:
        """Whether any option differs from the encoder's own, or is wrong."""
        return any(self[option].value() or self[option].errors for option in OPTIONS)

    def encoder_given(self) -> tuple[str, dict[str, Any]]:
        """The encoder's name and the options that were chosen."""
        data = self.cleaned_data
        name = data.get("encoder", "")
        options = {option: data[option] for option in OPTIONS if data.get(option) not in ("", None)}
        for option in ("chat_template", "normalize"):
            if option in options:
                options[option] = options[option] == "yes"
        return (str(data.get("encoder_name") or "").strip() if name == OTHER else name), options

    def check_encoder(self) -> tuple[str, dict[str, Any]]:
        """The encoder that was given, with errors at the fields to put right."""
        name, options = self.encoder_given()
        if self.cleaned_data.get("encoder") == OTHER and not name:
            self.add_error("encoder_name", _("Name the model."))
            return name, options
        for where, sentence in problems(name, options).items():
            other = where == "encoder" and self.cleaned_data.get("encoder") == OTHER
            self.add_error("encoder_name" if other else where, sentence)
        return name, options
