"""Bytes of each thing that a run keeps in memory, from a model's numbers alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from rlhf_engine.job.sections import Model, Optimizer

BYTES = {"fp32": 4, "bf16": 2}
FP32 = 4
# Rows of logits that exist at once: `CHUNK_ROWS` of rl/logprobs.py, which imports torch.
LOGIT_ROWS = 128
# Block sizes of bitsandbytes: one constant for 64 weights, one of those for 256 of them; one scale
# for 256 values of an 8-bit moment.
NF4_BLOCK, NF4_NESTED_BLOCK = 64, 256
EIGHT_BIT_BLOCK = 256
# The share of a GPU's free memory that fixed key-value buffers may keep, since the update, which
# comes later, needs the rest; and the columns they grow by, so that few prompt lengths mean new
# ones.
STATIC_SHARE = 0.25
# The share of it that the merged copy may take: sampling from 4 bits and adapters is slower, but
# goes, and a rollout's cache and an update need room.
MERGED_SHARE = 0.5
COLUMNS = 64
# Holes between living blocks of glibc's heap, as a share of what a training pass saves: with the
# engine's tunables 0.2 to 0.8 were measured (glibc 2.36; Llamas of 10 M and 60 M parameters at 256
# to 2048 tokens a micro-batch, SmolLM2-135M). Blocks from 32 MiB on come from the kernel and leave
# none.
HEAP_HOLES = 0.5
KERNEL_BLOCK = 32 * 2**20


@dataclass(frozen=True)
class Shape:
    """The numbers of a base model, and of the adapters that a spec puts on it.

    Counts are of parameters. `linear` are the weights of the layers that quantization packs (all
    linear ones but the vocabulary head), `adapted` those among them with an adapter, `largest`
    the largest of them, `other` everything else: embeddings, head, norms, biases. `policy_lora`
    is the policy's adapter (0: the bare base); with `inherited` it was made by an earlier run.
    `reward_lora` is a learned judge's (0: rules), `gold_lora` those of learned judges that are
    watched, `against_lora` those of the other policies of an evaluation. `stored_bytes` is what a
    parameter takes in the model's files.

    `saved` says what a forward pass with eager attention keeps for its backward pass, by the
    number format of the products: bytes in any case, for each token, and for each pair of tokens
    of one sequence.
    """

    linear: int
    adapted: int
    largest: int
    other: int
    policy_lora: int
    inherited: bool
    reward_lora: int
    gold_lora: int
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
    interpreter and libraries on the CPU, the context on a GPU. `widens` says that weights in
    bf16 are multiplied in fp32 there. `memory` is all that a GPU has; 0 where nobody knows.
    `workspace` is what its matrix library holds for each thread and stream that multiplies."""

    kind: Literal["cpu", "cuda"]
    process: int
    widens: bool = False
    memory: int = 0
    workspace: int = 0


@dataclass(frozen=True)
class Block:
    """Sequences that pass through the model together, each of `length` tokens."""

    sequences: int
    length: int

    @property
    def tokens(self) -> int:
        return self.sequences * self.length


@dataclass(frozen=True)
class Footprint:
    """Bytes of things on one model, loaded in one way, on one device."""

    shape: Shape
    model: Model
    device: Device

    @property
    def wide(self) -> int:
        """Bytes of a number in products and activations."""
        return BYTES["fp32" if self.device.widens else self.model.dtype]

    @property
    def _eager(self) -> bool:
        """Whether attention holds its scores: on the CPU (see model/base.py)."""
        return self.device.kind == "cpu"

    @property
    def base(self) -> int:
        """The frozen base as it is kept; what is not packed or in bf16 layers is as wide as the
        products."""
        shape = self.shape
        rest = shape.other * self.wide
        match self.model.quantization:
            case "int8":
                # One fp32 scale an output row; rows are at least as long as the model is wide.
                return rest + shape.linear + shape.linear // shape.hidden * FP32
            case "nf4":
                blocks = shape.linear // NF4_BLOCK
                nested = blocks + blocks // NF4_NESTED_BLOCK * FP32
                constants = nested if self.model.double_quant else blocks * FP32
                return rest + shape.linear // 2 + constants
        return rest + shape.linear * BYTES[self.model.dtype]

    @property
    def weight_in_passing(self) -> int:
        """The largest layer's weight in the format of the products, where it is kept in another
        one: made for each product and dropped."""
        kept_so = self.model.quantization == "none" and BYTES[self.model.dtype] == self.wide
        return 0 if kept_so else self.shape.largest * self.wide

    @property
    def merged_copy(self) -> int:
        """Plain weights of the adapted layers; int8 layers give theirs in bf16."""
        wide = BYTES["bf16"] if self.model.quantization == "int8" else self.wide
        return self.shape.adapted * wide

    @property
    def merging(self) -> int:
        """What merging the largest layer takes: its weight, that in fp32, the adapter's product
        and the scaled product."""
        plain = 0 if self.wide == FP32 else self.wide
        return self.shape.largest * (plain + 3 * FP32)

    def kv_cache(self, block: Block) -> int:
        """Keys and values of every layer; one tensor more while it grows by a token."""
        return (2 * self.shape.layers + 1) * block.tokens * self.shape.keys * self.wide

    def kv_buffers(self, block: Block) -> int:
        """The same at a fixed length, in whole steps of columns."""
        columns = -(-block.length // COLUMNS) * COLUMNS
        return 2 * self.shape.layers * block.sequences * columns * self.shape.keys * self.wide

    def decoding(self, block: Block) -> int:
        """What a step of decoding takes beside the cache: keys and values once for each head
        where attention is eager, or what tokens are drawn from (logits, their log-softmax, its
        exponential and the running sum, in fp32)."""
        repeats = self._eager and self.shape.kv_heads < self.shape.heads
        repeated = 2 * block.tokens * self.shape.queries * self.wide if repeats else 0
        return max(repeated, 4 * FP32 * block.sequences * self.shape.vocabulary)

    def forward(self, block: Block) -> int:
        """The most that a layer takes in passing, without gradients, with its input and output.

        In the feed-forward part: gate, its activation, the other half of the product. In eager
        attention: queries, keys and values, the masked scores, they in fp32, their softmax.
        """
        shape, wide = self.shape, self.wide
        stream = 3 * block.tokens * shape.hidden * wide
        feed = 3 * block.tokens * shape.intermediate * wide
        attention = 3 * block.tokens * (shape.queries + shape.keys) * wide
        if self._eager:
            attention += self._scores(block) * (wide + FP32 + (FP32 if wide < FP32 else 0))
        return stream + max(feed, attention)

    def saved(self, block: Block) -> int:
        """What a forward pass keeps for its backward pass.

        Eager attention keeps keys and values once for each head, and the scores of all pairs of
        tokens; the fused one keeps them as they are, and a normaliser for each query. With
        checkpointing each layer keeps its input, and one at a time all the rest.
        """
        shape = self.shape
        always, token, pair = shape.saved["fp32" if self.wide == FP32 else "bf16"]
        if self._eager:
            kept = always + block.tokens * token + block.sequences * block.length**2 * pair
        else:
            repeated = 2 * (shape.queries - shape.keys) * self.wide
            fused = token + shape.layers * (shape.heads * FP32 - repeated)
            kept = always + block.tokens * fused
        if self.model.gradient_checkpointing:
            inputs = block.tokens * shape.layers * shape.hidden * self.wide
            return inputs + kept // shape.layers
        return kept

    def backward(self, block: Block) -> int:
        """The most that the last layer's backward pass takes beside what was saved: gradients of
        the feed-forward part, or of the scores once its gate and activation are gone."""
        shape, wide = self.shape, self.wide
        feed = 3 * block.tokens * (shape.intermediate + shape.hidden) * wide
        gone = 2 * block.tokens * shape.intermediate * wide
        scores = 2 * FP32 * self._scores(block) - gone if self._eager else 0
        return max(feed, scores) + self.weight_in_passing

    def heap_holes(self, block: Block) -> int:
        """What glibc's heap holds between a training pass's tensors and cannot use."""
        widest = block.tokens * self.shape.intermediate * self.wide
        if self.device.kind != "cpu" or widest >= KERNEL_BLOCK:
            return 0
        return int(HEAP_HOLES * self.saved(block))

    def optimizer(self, trained: int, spec: Optimizer) -> int:
        """AdamW's two moments of the trained parameters: fp32, or 8 bits and one fp32 scale a
        block."""
        if spec.eight_bit:
            return 2 * (trained + trained // EIGHT_BIT_BLOCK * FP32)
        return 2 * trained * FP32

    def logit_chunk(self, rows: int, *, train: bool) -> int:
        """One block of logits in fp32 and its probabilities; for the backward pass these in the
        head's format too. And the hidden states of all rows, with their gradients."""
        height = min(LOGIT_ROWS, rows) * self.shape.vocabulary
        narrowed = self.wide if train and self.wide < FP32 else 0
        hidden = rows * self.shape.hidden * self.wide * (2 if train else 1)
        return height * (2 * FP32 + narrowed) + hidden

    def _scores(self, block: Block) -> int:
        return block.sequences * self.shape.heads * block.length**2
