"""The card of an exported reward model: what it is, what it was learned from, how good it is, and what to mind."""

from __future__ import annotations

import inspect
import json

from django.utils import timezone

from annotate.exporting.card import agreement, answers, arms, safe, table
from annotate.models import Evaluation
from learner.encoders import HuggingFaceEncoder, compose
from learner.encoders.base import CHARACTERS_PER_TOKEN
from learner.features import MARKS
from learner.rewardmodel import Exported
from learner.tasks.states import ProjectState


def card(state: ProjectState, encoder: HuggingFaceEncoder, done: Exported) -> str:
    """Markdown with the header that model hubs read."""
    project = state.project
    simulated = " **The judgments are simulated, no person gave them.**" if project.is_simulated else ""
    parts = [
        header(state),
        f"# {safe(project.name)}: reward model",
        f"Scores a response to a prompt. Learned from comparisons; the question was: “{safe(project.question)}” "
        f"Exported from Touchstone on {timezone.now():%d %B %Y, %H:%M UTC}.{simulated}",
        "## Use\n\n" + use(encoder, done),
        "## What the score means\n\n" + meaning(done),
        "## Data\n\n" + table(("Arm", "Comparisons", "Judgments"), arms(project)),
        "Judgments of the evaluation and gold arms trained nothing. Active pairs were chosen because they teach most.",
        table(("Answer", "Judgments"), answers(project)),
        *agreement(project),
        "## Measured\n\n" + measured(state),
        "## Made of\n\n" + made_of(state, encoder, done),
        "## Limits\n\n" + limits(encoder),
    ]
    return "\n\n".join(parts) + "\n"


def header(state: ProjectState) -> str:
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        f"model_name: {json.dumps(state.project.name)}",
        "tags: [reward-model, preference, bradley-terry, touchstone]",
        "---",
    ]
    return "\n".join(lines)


def use(encoder: HuggingFaceEncoder, done: Exported) -> str:
    """Code that gives the same scores, with the text composed as the encoder read it."""
    special = "" if not encoder.chat_template else ", add_special_tokens=False"
    source = inspect.getsource(compose)
    body = source[source.index("    encoded = ") :].rstrip()
    body = body.replace("CHARACTERS_PER_TOKEN", str(CHARACTERS_PER_TOKEN))
    text = "compose(prompt, response)"
    if encoder.chat_template:
        text = (
            'tokenizer.apply_chat_template([{"role": "user", "content": prompt}, '
            '{"role": "assistant", "content": response}], tokenize=False)'
        )
    lines = [
        "```python",
        "import torch",
        "from transformers import AutoModelForSequenceClassification, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("this folder")',
        'model = AutoModelForSequenceClassification.from_pretrained("this folder", dtype=torch.float32).eval()',
        "",
        f"def compose(prompt, response, tokens={encoder.max_length}):",
        body,
        "",
        f"text = {text}",
        f'inputs = tokenizer([text], truncation=True, padding=True{special}, return_tensors="pt")',
        "with torch.inference_mode():",
        "    score = model(**inputs).logits[:, 0]",
        *beside(done),
        "```",
    ]
    tail = (
        "\n\nLong prompts and responses are first cut as `compose` cuts them (the end of the prompt, the start of "
        "the response)."
        if encoder.chat_template
        else ""
    )
    return "\n".join(lines) + tail


def beside(done: Exported) -> list[str]:
    """Code that adds what the text columns contribute; none where the version has none."""
    if not done.columns:
        return []
    length, marks = done.columns
    pattern = MARKS.pattern.replace("```", "`{3}")  # the same, without what ends a block of code
    return [
        "",
        "import math, re",
        "",
        f"marks = len(re.findall({pattern!r}, response, re.MULTILINE))",
        f"score = score + {length!r} * math.log1p(len(response)) + {marks!r} * math.log1p(marks)",
    ]


def meaning(done: Exported) -> str:
    return (
        "The difference of two responses' scores to the same prompt is the logit of the first being preferred: "
        "`sigmoid(score_1 - score_2)`. Comparisons fix a reward only up to a constant for each prompt, so scores of "
        "different prompts cannot be compared; subtract the mean over a prompt's responses where one number a response "
        f"is wanted. {apart(done)}Touchstone's own reward is the score plus {done.offset:.6g}, the same for every "
        f"text. On {done.tried} responses of the pool the two differ by at most {done.difference:.1e} in float32."
    )


def apart(done: Exported) -> str:
    """That the classifier alone is not the whole score, where that is so."""
    if not done.columns:
        return ""
    return (
        "The version also looks at the whole text's length and formatting, which no classifier computes: the score is "
        "the classifier's and what the last two lines above add, whose weights are in `touchstone.json`. "
        "`touchstone_client.RewardModel` does all of it. "
    )


def measured(state: ProjectState) -> str:
    """Held-out metrics as the dashboard shows them."""
    rows = Evaluation.objects.filter(estimator__in=[state.estimators["production"].pk])
    newest = rows.order_by("-judgments").first()
    learned = f"The estimator learned from {state.reader.counts['production']:,} judgments."
    if newest is None:
        return f"{learned} There were too few evaluation judgments to measure it."
    names = {"log_loss": "Log-loss (0.693 is chance)", "accuracy": "Accuracy", "ece": "Calibration error"}
    values = [(title, shown(newest.metrics.get(name))) for name, title in names.items()]
    held_out = f"{newest.held_out:,} judgments of prompts that trained none"
    after = f"Measured after {newest.judgments:,} of them, on {held_out}."
    return f"{learned} {after}\n\n" + table(("Metric", "Value, 95 % interval"), values)


def shown(limits: list[float | None] | None) -> str:
    value, low, high = limits or (None, None, None)
    if value is None:
        return "unknown"
    return f"{value:.3f}" if low is None or high is None else f"{value:.3f} ({low:.3f} to {high:.3f})"


def made_of(state: ProjectState, encoder: HuggingFaceEncoder, done: Exported) -> str:
    bank = state.reader.banks["production"]
    rows = [
        ("Encoder", f"`{state.version.encoder}`"),
        ("Architecture", f"`{done.architecture}`, {done.dtype}"),
        ("Pooling", f"{encoder.pooling}{', scaled to length 1' if encoder.normalize else ''}"),
        ("Longest text", f"{encoder.max_length:,} tokens"),
        ("Feature dimensions", state.version.dimension or 0),
        ("Estimator", f"one-pass, lambda {bank.regularization:g}, step {state.step:,}"),
        ("Digests", f"encoder `{state.version.encoder_digest[:16]}`, pipeline `{state.version.digest[:16]}`"),
    ]
    return table(("Part", "Value"), rows)


def limits(encoder: HuggingFaceEncoder) -> str:
    said = [
        "- It knows what these annotators preferred on these prompts; elsewhere it extrapolates, with no interval.",
        "- A policy trained against it will find its errors. Keep comparing while it is used.",
        f"- It sees at most {encoder.max_length:,} tokens of a prompt with its response.",
        "- Use float32 or bfloat16; the numbers of its last layers do not fit into float16.",
    ]
    if encoder.dtype != "float32":
        said.append(
            f"- Touchstone computed its features in {encoder.dtype}: there rewards differ by rounding."
        )
    return "\n".join(said) + "\n- The encoder's own licence holds for its weights."
