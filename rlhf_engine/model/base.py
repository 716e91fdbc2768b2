"""Loading the one base model: where it comes from, its number format, its tokenizer."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.tokenization_utils_base import PreTrainedTokenizerBase

from rlhf_engine.job.errors import SpecError
from rlhf_engine.job.sections import Model
from rlhf_engine.model.builtin import builtin_model
from rlhf_engine.model.precision import product_dtype, widen_products
from rlhf_engine.runs.directory import find_run

# bitsandbytes' own switch for the repacking of 4-bit weights on CPUs with AVX512-BF16.
REPACKING = "support_avx512bf16_for_cpu"
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Source:
    """What a `policy` or reward field names: a base model and, perhaps, an adapter on it."""

    base: str
    adapter: Path | None


@dataclass(frozen=True)
class Base:
    """The loaded base with its tokenizer; `name` is what adapters call it."""

    name: str
    model: Any
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    pad_id: int


def resolve_source(name: str, home: Path, say: Callable[[str], None]) -> Source:
    """Find the base and the adapter behind `run:<id>`, a folder, `builtin:<name>` or a hub id.

    Raises SpecError if a folder is neither a model nor an adapter.
    """
    if name.startswith("builtin:"):
        return Source(str(builtin_model(name.removeprefix("builtin:"), say)), None)
    folder = (
        find_run(home, name.removeprefix("run:")).output
        if name.startswith("run:")
        else Path(name).expanduser()
    )
    if (folder / "adapter_config.json").is_file():
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        return Source(str(config["base_model_name_or_path"]), folder)
    if (folder / "config.json").is_file():
        return Source(str(folder), None)
    if name.startswith("run:") or folder.is_dir() or name.startswith(("/", ".", "~")):
        raise SpecError(
            f"{name}: no adapter_config.json or config.json in {folder}; give a run that is done, "
            "an adapter folder, a model folder or a hub id"
        )
    return Source(name, None)


def load_base(source: Source, spec: Model, device: torch.device) -> Base:
    """Load and freeze the base in the spec's number format, and its tokenizer.

    Raises SpecError with the reason if the hub or the folder does not give a causal model.
    """
    products = product_dtype(DTYPES[spec.dtype], device)
    options: dict[str, Any] = {
        "revision": spec.revision or "main",
        "trust_remote_code": spec.trust_remote_code,
    }
    try:
        config = AutoConfig.from_pretrained(source.base, **options)
        model = AutoModelForCausalLM.from_pretrained(
            source.base,
            config=config,
            dtype=DTYPES[spec.dtype],
            quantization_config=_quantization(spec, products),
            device_map={"": device},
            # The CPU's fused attention has a slow backward pass at the lengths a CPU can train.
            attn_implementation="eager" if device.type == "cpu" else "sdpa",
            use_safetensors=True,
            **options,
        )
        tokenizer = AutoTokenizer.from_pretrained(source.adapter or source.base, **options)
    except (OSError, ValueError, ImportError) as error:
        raise unloadable(source.base, error) from None
    _refuse_unknown_heads(source.base, config)
    model.requires_grad_(False)
    model.eval()
    if products != DTYPES[spec.dtype]:
        widen_products(model, model.get_output_embeddings())
    if spec.quantization != "none" and device.type == "cpu":
        _let_go_of_files(model)
    if spec.quantization == "nf4" and device.type == "cpu":
        keep_quantized_gradients(model)
    eos_ids = _eos_ids(model, tokenizer)
    return Base(source.base, model, tokenizer, eos_ids, _pad_id(tokenizer, eos_ids))


def unloadable(name: str, error: Exception) -> SpecError:
    """What to tell a person whose model the hub or the folder does not give, and what to do."""
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if re.search(r"offline|connect|resolve host|timed? ?out", first, re.IGNORECASE):
        advice = (
            "the hub cannot be reached and the model is not in its cache: connect, unset "
            "HF_HUB_OFFLINE, or give a model folder or builtin:smollm2-135m"
        )
    else:
        advice = "check the id or path (gated models need HF_TOKEN)"
    return SpecError(f"model {name}: {first}; {advice}")


def _quantization(spec: Model, products: torch.dtype) -> BitsAndBytesConfig | None:
    if spec.quantization == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=spec.double_quant,
            bnb_4bit_compute_dtype=products,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if spec.quantization == "int8" else None


def _let_go_of_files(model: nn.Module) -> None:
    """Copy what was not quantized out of the mapped weight files.

    A single tensor that looks into a file keeps all of it mapped, and resident is then also what
    was read once to be quantized.
    """
    for weight in model.parameters():
        if weight.is_floating_point():
            weight.data = weight.data.clone()


def keep_quantized_gradients(model: nn.Module) -> None:
    """Turn off the CPU repacking of 4-bit weights, which has no backward pass.

    After one forward in eval mode on a CPU with AVX512-BF16, bitsandbytes repacks a Linear4bit
    for inference and never undoes it: adapter gradients below it are silently wrong. Raises
    SpecError if a CPU would do so and the switch is not where it is known to be.
    """
    from bitsandbytes import __version__
    from bitsandbytes.nn.modules import Linear4bit

    for module in model.modules():
        if not isinstance(module, Linear4bit):
            continue
        if hasattr(module, REPACKING):
            setattr(module, REPACKING, False)
        elif torch.cpu._is_avx512_bf16_supported():
            raise SpecError(
                f"model.quantization = nf4: bitsandbytes {__version__} has no switch {REPACKING}, "
                "without which gradients are wrong on this CPU; install the version that "
                "constraints.txt names, or set model.quantization = none"
            )


def _refuse_unknown_heads(name: str, config: Any) -> None:
    for key in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, key, None) not in (None, 1, 1.0):
            raise SpecError(
                f"model {name}: its config sets {key}, which changes log-probs in a way that "
                "is not supported here; choose another model"
            )


def _eos_ids(model: Any, tokenizer: PreTrainedTokenizerBase) -> tuple[int, ...]:
    """Every token that ends a response, the tokenizer's own first."""
    listed = model.generation_config.eos_token_id
    more = listed if isinstance(listed, list) else [listed]
    ids = [i for i in [tokenizer.eos_token_id, *more] if i is not None]
    if not ids:
        raise SpecError("the tokenizer has no end-of-sequence token; responses could not end")
    return tuple(dict.fromkeys(int(i) for i in ids))


def _pad_id(tokenizer: PreTrainedTokenizerBase, eos_ids: tuple[int, ...]) -> int:
    """A pad token that is no end token; masks never depend on it."""
    candidates = [tokenizer.pad_token, "<|endoftext|>", "<pad>", tokenizer.unk_token]
    vocabulary = tokenizer.get_vocab()
    for token in [*candidates, *tokenizer.all_special_tokens]:
        if token in vocabulary and vocabulary[token] not in eos_ids:
            tokenizer.pad_token = token
            return int(vocabulary[token])
    raise SpecError("the tokenizer has no token that could serve as padding beside its end token")
