"""PPO-ptx: the policy goes on learning from conversations while PPO trains it."""

from rlhf_engine.data.batches import batch_indices
from rlhf_engine.job.spec import PpoSpec
from rlhf_engine.model.roles import Roles
from rlhf_engine.scoring import micro_batches
from rlhf_engine.seeding import derived
from rlhf_engine.stages.conversations import encoded
from rlhf_engine.stages.masked_tokens import log_likelihood
from rlhf_engine.stages.rows import read_split
from rlhf_engine.stages.stage import Workplace


class Conversations:
    """The second term of Ouyang et al. 2022, equation 2: a few rows in every optimiser update.

    Which rows an update gets follows from the seed and its number in the run alone.
    """

    def __init__(self, spec: PpoSpec, roles: Roles, place: Workplace) -> None:
        data = spec.ppo.ptx.data
        train, _ = read_split(data, place.home, spec.seed, place.report)
        self._rows = encoded(train, data, roles, place, "conversations beside PPO")
        self._size = spec.ppo.ptx.batch_size
        self._seed = derived(spec.seed, "ptx", 0)
        self._roles = roles
        self._sizes = place.sizes
        self._ranks = place.ranks

    def backward(self, update: int, coef: float) -> float:
        """Add the gradients of coef * cross-entropy, a mean over the assistant's tokens.

        `update` counts the run's optimiser updates from 1. Returns the cross-entropy in nats a
        token; gradients reach the policy adapter alone.
        """
        rows = batch_indices(update, self._size, len(self._rows), self._seed)
        batch = [self._rows[row] for row in rows]
        lengths = [len(item.ids) for item in batch]
        count = sum(sum(item.loss_mask) for item in batch)
        total = 0.0
        size = self._ranks.rows_at_once(self._sizes.micro_batch, len(batch))
        groups = list(micro_batches(lengths, range(len(batch)), size))
        for group in self._ranks.share(groups):
            found = log_likelihood(self._roles, [batch[row] for row in group])
            (-coef * found / count).backward()
            total -= float(found.detach())
        return self._ranks.sums([total])[0] / count
