"""Small parts of the launch screen: the row of stages, and what it says of presets and changes."""

from collections.abc import Container, Iterator, Sequence
from typing import ClassVar

from textual.binding import BindingType
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from rlhf_engine.runs.sample import printable
from workbench.form_model import NAME, Form, Verdict
from workbench.keys import Key, bindings

STAGE_ROW_KEYS = (
    Key("stages.before", "left", "step(-1)", "Stage before", "Edit the stage before"),
    Key("stages.next", "right", "step(1)", "Next stage", "Edit the next stage"),
)


class StageRow(Static, can_focus=True):
    """The stages of a pipeline in their order; left and right choose the one to edit."""

    BINDINGS: ClassVar[list[BindingType]] = [*bindings(STAGE_ROW_KEYS)]
    DEFAULT_CSS = """
    StageRow { height: auto; padding: 0 1; &:focus { background-tint: $foreground 10%; } }
    """

    class Chosen(Message):
        """A person wants to edit another stage."""

        def __init__(self, stage: int) -> None:
            super().__init__()
            self.stage = stage

    form: Form | None = None
    stage: int = 0

    def show(self, form: Form, stage: int, verdict: Verdict, lacking: Container[str] = ()) -> None:
        """Each stage with its state: invalid, too big for what is free (`lacking`), or valid.

        The one that is edited stands in brackets, one that was changed has a `*`.
        """
        self.form, self.stage = form, stage
        self.display = form.base.is_pipeline
        parts: list[Content | tuple[str, str]] = []
        for place, spec in enumerate(form.base.stages):
            wrong = any(where == place and key not in (NAME, "") for where, key in verdict.problems)
            changed = any(where == place for where, _ in form.typed)
            word = "invalid" if wrong else "too big" if spec.name in lacking else "valid"
            name = f"{'*' if changed else ''}{printable(spec.name)} {word}"
            name = f"[{name}]" if place == stage else f" {name} "
            style = "$error" if wrong else "$warning" if word == "too big" else ""
            style = style or ("$accent" if changed else "")
            style += " bold reverse" if place == stage else ""
            parts += [Content("→")] if place else []
            parts.append((name, style))
        self.update(Content.assemble(*parts))

    def action_step(self, by: int) -> None:
        if self.form:
            count = len(self.form.base.stages)
            self.post_message(self.Chosen(max(0, min(count - 1, self.stage + by))))


def summary(form: Form, verdict: Verdict, refusals: Sequence[str], tight: bool) -> Content:
    """Whether the form can be launched, and everything that stands in the way.

    `refusals` are reasons beside the spec's own; `tight` says that an estimate does not fit.
    """
    parts: list[Content | tuple[str, str]] = []
    reasons = [*_reasons(form, verdict), *refusals]
    if reasons:
        count = len(reasons)
        parts.append((f"not yet: {count} problem{'s' if count > 1 else ''}", "$error bold"))
    else:
        count = len(form.base.stages)
        runs = f"{count} run{'s' if count > 1 else ''}"
        if tight:
            parts.append((f"{runs}, larger than what is free: Launch asks", "$warning bold"))
        else:
            parts.append((f"ready: {runs}", "$success bold"))
    parts += [(f"\n! {printable(reason)}", "$error") for reason in reasons]
    return Content.assemble(*parts)


def _reasons(form: Form, verdict: Verdict) -> Iterator[str]:
    for (stage, key), line in verdict.problems.items():
        scope = f"{form.base.stages[stage].name}: " if form.base.is_pipeline and key else ""
        yield ("name: " if key == NAME else f"{scope}{key}: " if key else "") + line


def difference(form: Form) -> Content:
    """Each changed field with the preset's value and the new one."""
    changes = form.changes()
    if not changes:
        return Content.styled("as the preset says", "$text-muted")
    parts: list[Content | tuple[str, str]] = []
    for change in changes:
        scope = f"{change.stage}: " if change.stage else ""
        before, after = (printable(text) or "empty" for text in (change.before, change.after))
        gap = "\n" if parts else ""
        parts.append((f"{gap}{printable(scope)}{change.field.key}\n", "bold"))
        parts.append(Content(f"  {before} → {after}"))
    return Content.assemble(*parts)
