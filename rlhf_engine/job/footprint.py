"""Bytes of each thing that a run keeps in memory, from a model's numbers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_engine.job.sections import Model

BYTES = {"fp32": 4, "bf16": 2}
FP32 = 4
# Rows of logits that exist at once: `CHUNK_ROWS` of rl/logprobs.py, which imports torch.
LOGIT_ROWS = 128
# Block sizes of bitsandbytes: one constant for 64 weights, one of those for 256 of them.
NF4_BLOCK, NF4_NESTED_BLOCK = 64, 256
# Holes between living blocks of glibc's heap, as a share of what a training pass saves: with the
# engine's tunables 0.2 to 0.6 were measured (glibc 2.36, a Llama of 10 M parameters at 256 to
# 2048 tokens a micro-batch, SmolLM2-135M). Blocks from 32 MiB on come from the kernel and leave
# none.
HEAP_HOLES = 0.35
KERNEL_BLOCK = 32 * 2**20


@dataclass(frozen=True)
class Shape:
    """The numbers of a base model, and of the adapters that a spec puts on it.

    Counts are of parameters. `linear` are the weights of the layers that quantization packs (all
    linear ones but the vocabulary head), `adapted` those among them with an adapter, `largest`
    the largest of them, `other` everything else: embeddings, head, norms, biases. `policy_lora`
    is the policy's adapter (0: the bare base); with `inherited` it was made by an earlier run.
    `reward_lora` is a learned judge's (0: rules), `against_lora` those of the other policies of
    an evaluation. `stored_bytes` is what a parameter takes in the model's files.

    `saved` says what a forward pass with eager attention keeps for its backward pass, by the
    number format of the products: bytes for each token, and for each pair of tokens of one
    sequence.
    """

    linear: int
    adapted: int
    largest: int
    other: int
    policy_lora: int
    inherited: bool
    reward_lora: int
    against_lora: int
    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    stored_bytes: int
    saved: Mapping[str, Sequence[int]]

    @property
    def queries(self) -> int:
        """Width of all heads' queries together."""
        return self.heads * self.head_dim

    @property
    def keys(self) -> int:
        """Width of all heads' keys together."""
        return self.kv_heads * self.head_dim


@dataclass(frozen=True)
class Device:
    """Where a run computes; `process` are the bytes it takes there before it does anything:
    interpreter and libraries on the CPU, the context on a GPU."""

    kind: Literal["cpu", "cuda"]
    process: int


@dataclass(frozen=True)
class Block:
    """Sequences that pass through the model together, each of `length` tokens."""

    sequences: int
    length: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.length


def base(shape: Shape, model: Model) -> int:
    """The frozen base as it is stored."""
    wide = BYTES[model.dtype]
    rest = shape.other * wide
    if model.quantization == "int8":
        # One fp32 scale an output row; rows are at least as long as the model is wide.
        return rest + shape.linear + shape.linear // shape.hidden * FP32
    if model.quantization == "nf4":
        blocks = shape.linear // NF4_BLOCK
        if model.double_quant:
            return rest + shape.linear // 2 + blocks + blocks // NF4_NESTED_BLOCK * FP32
        return rest + shape.linear // 2 + blocks * FP32
    return rest + shape.linear * wide


def dequantized(shape: Shape, model: Model) -> int:
    """The largest layer's weight in the compute format, made for each product and dropped."""
    return 0 if model.quantization == "none" else shape.largest * BYTES[model.dtype]


def merged_copy(shape: Shape, model: Model) -> int:
    """Plain weights of the adapted layers; int8 layers give theirs in bf16."""
    wide = 2 if model.quantization == "int8" else BYTES[model.dtype]
    return shape.adapted * wide


def merging(shape: Shape, model: Model) -> int:
    """What making the merged copy of the largest layer takes: the weight, it in fp32, the
    adapter's product and that scaled."""
    plain = 0 if model.dtype == "fp32" else BYTES[model.dtype]
    return shape.largest * (plain + 3 * FP32)


def kv_cache(shape: Shape, model: Model, block: Block) -> int:
    """Keys and values of every layer; one tensor more while it grows by a token."""
    tensor = block.tokens * shape.keys * BYTES[model.dtype]
    return (2 * shape.layers + 1) * tensor


def decoding(shape: Shape, model: Model, device: Device, block: Block) -> int:
    """What a step of decoding takes beside the cache: keys and values repeated for each head
    where attention is eager, or the distributions that tokens are drawn from (logits, their
    log-softmax, its exponential and the running sum, in fp32)."""
    repeated = 2 * block.tokens * shape.queries * BYTES[model.dtype]
    eager = repeated if device.kind == "cpu" and shape.kv_heads < shape.heads else 0
    return max(eager, 4 * FP32 * block.sequences * shape.vocabulary)


def forward(shape: Shape, model: Model, device: Device, block: Block) -> int:
    """The most that one layer takes in passing, without gradients, and its input and output.

    In the feed-forward part: gate, its activation and the other half of the product. In eager
    attention: the masked scores, they in fp32, and their softmax.
    """
    wide = BYTES[model.dtype]
    stream = 3 * block.tokens * shape.hidden * wide
    feed = 3 * block.tokens * shape.intermediate * wide
    attention = block.tokens * 3 * (shape.queries + shape.keys) * wide
    if device.kind == "cpu":
        attention += _scores(shape, block) * (wide + FP32 + (FP32 if wide < FP32 else 0))
    return stream + max(feed, attention)


def saved(shape: Shape, model: Model, device: Device, block: Block) -> int:
    """What a forward pass keeps for its backward pass.

    Eager attention (on the CPU) keeps keys and values once a head, and the scores of all pairs
    of tokens; the fused one (on a GPU) keeps them once a head of keys, and a normaliser a query.
    """
    token, pair = shape.saved[model.dtype]
    if device.kind == "cpu":
        return block.tokens * token + block.sequences * block.length**2 * pair
    repeated = 2 * (shape.queries - shape.keys) * BYTES[model.dtype]
    return block.tokens * (token + shape.layers * (shape.heads * FP32 - repeated))


def backward(shape: Shape, model: Model, device: Device, block: Block) -> int:
    """The most that the last layer's backward pass takes beside what was saved: gradients of
    the feed-forward part, or of the scores once the feed-forward part's own are gone."""
    wide = BYTES[model.dtype]
    feed = block.tokens * (3 * shape.intermediate + 3 * shape.hidden) * wide
    if device.kind != "cpu":
        return feed
    freed = 2 * block.tokens * shape.intermediate * wide
    return max(feed, _scores(shape, block) * 2 * FP32 - freed)


def heap_holes(shape: Shape, model: Model, device: Device, block: Block) -> int:
    """Memory that glibc's heap holds between a training pass's tensors and cannot use."""
    widest = block.tokens * shape.intermediate * BYTES[model.dtype]
    if device.kind != "cpu" or widest >= KERNEL_BLOCK:
        return 0
    return int(HEAP_HOLES * saved(shape, model, device, block))


def optimizer(trained: int) -> int:
    """AdamW's first and second moments of the trained parameters, in fp32."""
    return 2 * trained * FP32


def logit_chunk(shape: Shape, model: Model, rows: int, *, train: bool) -> int:
    """One block of logits in fp32 and its probabilities; for the backward pass also these in
    the head's format, and the hidden states of all rows with their gradients."""
    wide = BYTES[model.dtype]
    height = min(LOGIT_ROWS, rows) * shape.vocabulary
    chunk = height * (2 * FP32 + (wide if train and wide < FP32 else 0))
    return chunk + rows * shape.hidden * wide * (2 if train else 1)


def _scores(shape: Shape, block: Block) -> int:
    return block.sequences * shape.heads * block.length**2
