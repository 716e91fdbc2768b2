"""Tiny random models and tokenizers made on the spot; no language, every mechanism."""

from collections.abc import Iterable
from pathlib import Path

import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
)

from rlhf_engine.job.sections import Model
from rlhf_engine.model.base import Base, Source, load_base
from rlhf_engine.model.builtin import byte_tokenizer

KINDS = ("llama", "gpt2", "gpt_neox")


def tiny_model(kind: str, vocabulary: int) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "llama":
        return LlamaForCausalLM(
            LlamaConfig(
                vocab_size=vocabulary,
                hidden_size=64,
                intermediate_size=128,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.1,
            )
        )
    if kind == "gpt2":
        return GPT2LMHeadModel(
            GPT2Config(vocab_size=vocabulary, n_embd=64, n_layer=2, n_head=4, initializer_range=0.1)
        )
    return GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=vocabulary,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            initializer_range=0.1,
        )
    )


def save_tiny(
    folder: Path, kind: str = "llama", ends: Iterable[int] = (), vocabulary: int | None = None
) -> Path:
    """A model folder as a hub would give it.

    More end tokens than the tokenizer's own make responses of a random model differ in length.
    """
    tokenizer = byte_tokenizer()
    model = tiny_model(kind, vocabulary or len(tokenizer))
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, *ends]
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def tiny_base(
    folder: Path,
    kind: str = "llama",
    quantization: str = "none",
    device: str = "cpu",
    dtype: str = "fp32",
    vocabulary: int | None = None,
) -> Base:
    spec = Model.model_validate({"dtype": dtype, "quantization": quantization})
    source = Source(str(save_tiny(folder, kind, vocabulary=vocabulary)), None)
    return load_base(source, spec, torch.device(device))
