"""The base model, its roles, and what is written of them."""

import logging

# On import bitsandbytes looks for an optional kernel that would come from a hub, and warns that it
# is not there; the kernel serves inference with packed weights, which is turned off here anyway.
logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
