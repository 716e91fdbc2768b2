"""What the samples screen says around a response: titles, the prompt, a diff, the empty list."""

from textual.content import Content
from textual.geometry import Size

from rlhf_engine.runs.directory import RunDir
from rlhf_engine.runs.reader import SampleRow
from rlhf_engine.runs.sample import printable
from workbench.commands.text import clip
from workbench.format import short
from workbench.samples_feed import SampleView
from workbench.widgets.ask_pane import no_answers
from workbench.word_diff import word_diff

# A pane shows no more of a prompt at once; enter shows all of it.
PROMPT_SHOWN, PROMPT_LINES = 280, 4


def title_line(name: str, stage: str, view: SampleView, size: Size) -> Content:
    """The run, its state as a word, and where it stands."""
    parts = [f"samples of {name}", stage, view.state.word]
    if view.state.total is not None:
        parts.append(f"step {view.state.step:,}/{view.state.total:,}")
    if view.problem:
        parts = [view.problem]
    return Content(f" {clip(' · '.join(part for part in parts if part), size.width - 2)}")


def empty_words(run: RunDir, stage: str, view: SampleView) -> str:
    """Why there is no sample in the list, and what to do."""
    chosen, state = view.want.selection, view.state
    if chosen.text or chosen.kind or chosen.prompt_id:
        return "No sample fits. esc shows all again, f another kind, / other words."
    if stage == "reward":
        return "A reward run samples nothing: it learns from pairs. 3 shows how it goes."
    if refusal := no_answers(run, state):
        return f"This run recorded no samples. To see some: {printable(refusal)}."
    if stage == "sft":
        return "An SFT run samples nothing by itself. i asks its policy a prompt of yours."
    return (
        "No samples yet: the first ones come with the first step. They appear here by themselves. "
        "i asks the policy a prompt of yours."
    )


def prompt_words(row: SampleRow | None) -> Content:
    """The prompt, its beginning if it is long."""
    if row is None:
        return Content("")
    text = printable(row.sample.prompt)
    lines = text[:PROMPT_SHOWN].split("\n")[:PROMPT_LINES]
    shown = "\n".join(lines)
    return Content((shown if shown == text else f"{shown}… (enter shows all)") or "(nothing)")


def response_title(row: SampleRow) -> str:
    """The step, the kind, and who answered where that is said."""
    who = str(row.sample.detail.get("policy", ""))
    parts = ["RESPONSE", f"step {row.step}", row.sample.kind, who]
    return printable(" · ".join(part for part in parts if part))


def response_figures(row: SampleRow) -> str:
    """The figures of the whole response."""
    sample = row.sample
    figures = {
        "score": sample.score,
        "gold": sample.gold,
        "KL": sample.kl,
        "net": sample.net_reward,
    }
    parts = [f"{name} {short(value)}" for name, value in figures.items() if value is not None]
    parts += [f"{len(sample.tokens)} tokens"] if sample.tokens else []
    return " · ".join([*parts, *([] if sample.finished else ["cut off"])])


def full_text(row: SampleRow) -> str:
    """Prompt and response at full length, and every score by its name."""
    sample = row.sample
    ended = "" if sample.finished else "\n\n[cut off: no end of sequence]"
    told = "\n".join(f"{name}: {value}" for name, value in sample.detail.items())
    scores = f"\n\nFURTHER FIGURES\n{told}" if told else ""
    title = f"{response_title(row)} · {response_figures(row)}"
    return f"PROMPT\n{sample.prompt}\n\n{title}\n{sample.response}{ended}{scores}"


def difference(before: SampleRow, after: SampleRow) -> Content:
    """What the response says otherwise than the marked one: `[-gone-]`, `{+new+}`."""
    if before.seq == after.seq:
        return Content("this is the marked sample: up and down go to another one")
    old, new = printable(before.sample.response), printable(after.sample.response)
    parts: list[tuple[str, str] | str] = []
    if before.sample.prompt_id != after.sample.prompt_id:
        parts.append(("the two answer different prompts; p shows one prompt across steps\n\n", ""))
    for what, text in word_diff(old, new):
        body = text.rstrip()
        blanks = text[len(body) :]
        if what == "same":
            parts.append(text)
        elif what == "gone":
            parts += [(f"[-{body}-]", "$text-error"), blanks or " "]
        else:
            parts += [(f"{{+{body}+}}", "bold $text-success"), blanks]
    return Content.assemble(*parts) if old != new else Content(f"the same words\n\n{new}")
