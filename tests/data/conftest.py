"""Tokenizers made on the spot: every byte is a token, common words are merged."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
CORPUS = [
    "user assistant system: hello there, how are you? I am fine.\n\n",
    "What is the capital of France? The capital of France is Paris.\n",
]
SPECIAL = ["<|bos|>", "<|im_start|>", "<|im_end|>", "</s>"]

MakeTokenizer = Callable[..., PreTrainedTokenizerFast]


def make(
    template: str | None = None, *, eos: str = "<|im_end|>", bos: bool = False
) -> PreTrainedTokenizerFast:
    """Build a byte-level BPE tokenizer; with `bos` it puts BOS before plain text, like Llama's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=alphabet, special_tokens=SPECIAL, show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    backend.post_processor = processors.ByteLevel(trim_offsets=True)
    if bos:
        backend.post_processor = processors.TemplateProcessing(
            single="<|bos|> $A", special_tokens=[("<|bos|>", backend.token_to_id("<|bos|>"))]
        )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token=eos, pad_token=eos
    )
    tokenizer.add_special_tokens({"additional_special_tokens": SPECIAL})
    tokenizer.chat_template = template
    return tokenizer


@pytest.fixture(scope="session")
def make_tokenizer() -> MakeTokenizer:
    """Build a tokenizer from a chat template, or from none."""
    return make


@pytest.fixture(scope="session")
def chatml(make_tokenizer: MakeTokenizer) -> PreTrainedTokenizerFast:
    """A tokenizer with a ChatML template; its pad token is its end token."""
    return make_tokenizer(CHATML)


@pytest.fixture
def hh_file() -> Path:
    """1,200 real human preference pairs that lie beside the repository."""
    path = Path(__file__).parents[2] / "../shared/data/hh_harmless_1200.jsonl.gz"
    if not path.exists():
        pytest.skip("the shared HH sample is not beside the repository")
    return path
