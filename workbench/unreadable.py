"""Runs that cannot be looked into: their words for it, and what to do."""

# The viewers' own states: a store or spec that cannot be read, a folder that is gone.
UNREADABLE, DELETED = "unreadable", "deleted"


def cannot_read(error: object) -> str:
    """Why a run's store cannot be read, and the next step, wherever a person is."""
    return (
        f"cannot read the run: {error}; put a copy of its folder back, or delete it in the list "
        "of runs (1, then D); workbench doctor looks at the disk"
    )
