"""Small models with random weights, made by the tests: no download."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TEXT = "the tide turns because moon pulls sea and wind blows over sand while gulls cry . answer to question"
WORDS = TEXT.split()


def tokenizer(folder: Path, pad: str, end: str) -> int:
    """A tokenizer of whole words; the size of its vocabulary."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    names = dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS])
    vocabulary = {word: i for i, word in enumerate(names)}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast: Any = PreTrainedTokenizerFast(
        tokenizer_object=words,
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        eos_token=end,
        pad_token=pad,
    )
    fast.save_pretrained(folder)
    return len(vocabulary)


def tiny_llama(folder: Path, pads_with_end: bool = False) -> Path:
    """A Llama architecture of two layers, d = 32."""
    import torch
    from transformers import LlamaConfig, LlamaModel

    pad = "[SEP]" if pads_with_end else "[PAD]"
    size = tokenizer(folder, pad, "[SEP]")
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.2,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(folder)
    return folder


def tiny_bert(folder: Path) -> Path:
    """A BERT of two layers, d = 32, with layer norms that are not the identity."""
    from transformers import BertConfig, BertModel

    return encoder_only(folder, BertConfig, BertModel)


def tiny_roberta(folder: Path) -> Path:
    """A RoBERTa of two layers, d = 32."""
    from transformers import RobertaConfig, RobertaModel

    return encoder_only(folder, RobertaConfig, RobertaModel)


def encoder_only(folder: Path, config: Any, model: Any) -> Path:
    import torch

    size = tokenizer(folder, "[PAD]", "[SEP]")
    torch.manual_seed(1)
    made = model(config(
        vocab_size=size, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=128, pad_token_id=0, initializer_range=0.2,
    ))  # fmt: skip
    for part in made.modules():
        if isinstance(part, torch.nn.LayerNorm):
            torch.nn.init.normal_(part.weight, 1.0, 0.2)
            torch.nn.init.normal_(part.bias, 0.0, 0.2)
    made.save_pretrained(folder)
    return folder
