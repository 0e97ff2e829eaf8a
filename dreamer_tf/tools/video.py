"""What the model imagines and what the policy does, as pictures and videos.

An open-loop prediction sees the first steps of a sequence, then only its actions.
The same parts make a video (`animate`), a still picture for TensorBoard and talks
(`strip`), and the files of `run.py video` (`film_run`). Images are rows of truth,
model and error; vectors are curves over time. Blue is what the model has seen,
orange what it imagined.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, ImageDraw, ImageFont

from dreamer_tf.agent import Agent, load_agent
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import episode_seed
from dreamer_tf.errors import UserError
from dreamer_tf.training import checkpoint, logdir
from dreamer_tf.training.build import one_env
from dreamer_tf.training.experience import BY_HAND

Color = tuple[int, int, int]

# Colours that stay apart for colour-blind readers (Okabe and Ito).
SEEN: Color = (0, 114, 178)
IMAGINED: Color = (230, 120, 0)
PAST_END: Color = (170, 178, 188)
INK: Color = (27, 36, 48)
MUTED: Color = (92, 104, 118)
PAPER: Color = (255, 255, 255)

FIXED = (SEEN, IMAGINED, PAST_END, INK, MUTED, PAPER)

CONTEXT = 5  # steps that are seen, by default
WIDTH = 900  # of videos, in pixels; more where many images need it
MARGIN, GAP, BORDER, LABELS = 12, 6, 4, 80  # pixels
SEQUENCES = 6  # side by side, at most
GIF_FRAMES = 200  # of the policy, at most: GIFs are large
OPENLOOP_FPS, POLICY_FPS = 10, 30
POLICY_SIZE = 320


@dataclasses.dataclass(frozen=True)
class OpenLoop:
    """Observations beside their prediction.

    Attributes:
      truth, model: observation entry -> float32 `[B, T, ...]`; images in [0, 1],
        vectors in their own units.
      context: how many steps the model has seen.
      ended: bool `[B, T]`, where the episode is over that was predicted. There the
        model is NaN: open loop, it cannot know that another one has begun.
    """

    truth: Mapping[str, np.ndarray]
    model: Mapping[str, np.ndarray]
    context: int
    ended: np.ndarray

    @property
    def size(self) -> tuple[int, int]:
        """Sequences B and steps T."""
        sequences, steps = self.ended.shape
        return sequences, steps

    @property
    def images(self) -> list[str]:
        return [k for k, v in self.truth.items() if v.ndim == 5]

    @property
    def vectors(self) -> list[str]:
        return [k for k, v in self.truth.items() if v.ndim < 5]


def predict(agent: Agent, batch: Mapping[str, np.ndarray], context: int) -> OpenLoop:
    """Lets the agent predict the last rows of a batch, all but a replayed context.

    Args:
      batch: `[B, T, ...]` as from replay; its first rows after a replayed context
        are the `context` steps that the model sees.
    """
    model = agent.report(dict(batch), context)
    rows = next(iter(model.values())).shape[1]
    begins = np.array(batch["is_first"][:, -rows:])
    begins[:, :context] = False
    ended = np.logical_or.accumulate(begins, 1)
    truth, cleaned = {}, {}
    for name, values in model.items():
        truth[name] = np.asarray(batch[name][:, -rows:], np.float32)
        cleaned[name] = np.array(values, np.float32)
        if values.ndim == 5:
            truth[name] /= 255
            cleaned[name] = np.clip(cleaned[name], 0, 1)
        cleaned[name][ended] = np.nan
    return OpenLoop(truth, cleaned, context, ended)


# --- The picture and its parts ------------------------------------------------


def heading(version: str, task: str, frames: int) -> str:
    """What was trained, on what and for how long."""
    return f"Dreamer{version.upper()}   {task}   {frames:,} frames"


def animate(result: OpenLoop, title: str) -> Iterator[np.ndarray]:
    """The prediction step by step, sequences side by side.

    Yields:
      One uint8 `[H, W, 3]` for each step; height and width are even, as videos
      need them.
    """
    sequences, steps = result.size
    plot = None
    for step in range(steps):
        cells = [(sequence, step) for sequence in range(sequences)]
        parts = [_tiles(result, name, cells) for name in result.images]
        width = max([WIDTH, *(part.width for part in parts)])
        if result.vectors:
            plot = plot or _Curves(result, width)
            parts.append(plot.until(step))
        yield _stack([_header(result, title, width, step), *parts])


def strip(result: OpenLoop, title: str) -> np.ndarray:
    """Chosen steps side by side, up to two sequences below each other.

    Returns:
      uint8 `[H, W, 3]`.
    """
    chosen = _chosen_steps(result)
    captions = [
        f"seen {step + 1}" if step < result.context else f"+{step - result.context + 1}"
        for step in chosen
    ]
    parts = [
        _tiles(result, name, [(sequence, step) for step in chosen], captions)
        for name in result.images
        for sequence in range(min(2, result.size[0]))
    ]
    width = max([WIDTH, *(part.width for part in parts)])
    if result.vectors:
        parts.append(_Curves(result, width).until(result.size[1] - 1))
    return _stack([_header(result, title, width), *parts])


def _chosen_steps(result: OpenLoop) -> list[int]:
    """Up to 3 steps that were seen and 7 that were imagined, evenly spread."""
    context, steps = result.context, result.size[1]
    seen = np.linspace(0, context - 1, min(3, context))
    imagined = np.linspace(context, steps - 1, min(7, steps - context))
    return np.unique(np.round([*seen, *imagined]).astype(int)).tolist()


def _header(
    result: OpenLoop, title: str, width: int, step: int | None = None
) -> Image.Image:
    """Title and legend; in a video also the time, as a number and as a bar."""
    context, steps = result.context, result.size[1]
    picture = Image.new("RGB", (width, 64 if step is None else 84), PAPER)
    draw = ImageDraw.Draw(picture)
    room = width - 2 * MARGIN - (0 if step is None else 320)
    sizes = (17, 15, 13, 11, 9)
    fonts = [_font(size, bold=True) for size in sizes]
    font = next((font for font in fonts if font.getlength(title) <= room), fonts[-1])
    draw.text((MARGIN, 20), title, INK, font, anchor="lm")
    if step is not None:
        ahead = step - context + 1
        text = f"imagined +{ahead}" if ahead > 0 else "seen"
        text = f"{text}   decision {step + 1:>{len(str(steps))}} of {steps}"
        colour = IMAGINED if ahead > 0 else SEEN
        draw.text((width - MARGIN, 20), text, colour, _font(17, bold=True), anchor="rm")
    x = MARGIN
    words = [(SEEN, f"seen: the model gets {context} observations")]
    words += [(IMAGINED, "imagined: +n decisions later, from actions alone")]
    for colour, text in words:
        draw.rectangle((x, 41, x + 14, 55), colour)
        draw.text((x + 21, 48), text, INK, _font(14), anchor="lm")
        x += 45 + int(_font(14).getlength(text))
    if result.vectors:
        for dashes, text in (([(0, 28)], "truth"), ([(0, 11), (17, 28)], "model")):
            for start, end in dashes:
                draw.line((x + start, 48, x + end, 48), INK, 2)
            draw.text((x + 34, 48), text, INK, _font(14), anchor="lm")
            x += 56 + int(_font(14).getlength(text))
    if step is not None:
        edges = np.linspace(MARGIN, width - MARGIN, steps + 1).round().astype(int)
        for i in range(steps):
            colour = SEEN if i < context else IMAGINED
            colour = colour if i <= step else _tint(colour, 0.75)
            draw.rectangle((edges[i], 68, edges[i + 1] - 2, 76), colour)
    return picture


def _tiles(
    result: OpenLoop,
    name: str,
    cells: Sequence[tuple[int, int]],
    captions: Sequence[str] = (),
) -> Image.Image:
    """Rows truth, model, error of an image entry; a column for each cell.

    A single cell would leave most of the width empty: its three are side by side.

    Args:
      cells: (sequence, step) of the columns.
      captions: above the columns.
    """
    truth = np.stack([result.truth[name][cell] for cell in cells])
    model = np.stack([result.model[name][cell] for cell in cells])
    rows = {"truth": truth, "model": model, "error": (model - truth + 1) / 2}
    across = len(cells) == 1
    columns = 3 if across else len(cells)
    left = MARGIN if across else MARGIN + LABELS
    height, width = truth.shape[1:3]
    fits = (WIDTH - MARGIN - left) // columns - GAP - 2 * BORDER
    most = 150 if result.vectors and not across else 280
    scale = min(most, max(128, fits)) / max(height, width)
    height, width = round(height * scale), round(width * scale)
    right, down = width + 2 * BORDER + GAP, height + 2 * BORDER + GAP
    title = 24 if len(result.images) > 1 else 0  # which entry, if there are several
    top = title + (24 if captions or across else GAP)
    size = (left + columns * right - GAP + MARGIN, top + (1 if across else 3) * down)
    picture = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(picture)
    bold, small = _font(15, bold=True), _font(10)
    if title:
        draw.text((MARGIN, 12), name, INK, bold, anchor="lm")
    for row, (label, images) in enumerate(rows.items()):
        note = "model - truth\ngrey: equal" if label == "error" else ""
        if across:
            x, y = left + row * right, top - 11
            draw.text((x, y), label, INK, bold, anchor="lm")
            draw.text((x + 52, y), note.replace("\n", ", "), MUTED, small, anchor="lm")
        else:
            y = top + row * down + height // 2
            draw.text((MARGIN, y), label, INK, bold, anchor="lm")
            draw.multiline_text((MARGIN, y + 12), note, MUTED, small, spacing=2)
        for column, (sequence, step) in enumerate(cells):
            x = left + (row if across else column) * right
            y = top + (0 if across else row) * down
            colour = SEEN if step < result.context else IMAGINED
            caption = captions[column] if captions else ""
            if result.ended[sequence, step]:
                colour, caption = PAST_END, "next episode"
            frame = (x, y, x + width + 2 * BORDER - 1, y + height + 2 * BORDER - 1)
            draw.rectangle(frame, colour)
            image = Image.fromarray(_pixels(images[column]))
            image = image.resize((width, height), Image.Resampling.BOX)
            picture.paste(image, (x + BORDER, y + BORDER))
            if captions and row == 0 and not across:
                draw.text(
                    (x + width // 2 + BORDER, top - 11),
                    caption,
                    MUTED if colour == PAST_END else colour,
                    _font(14, bold=True),
                    anchor="mm",
                )
    return picture


def _pixels(image: np.ndarray) -> np.ndarray:
    """`[H, W, C]` in [0, 1] as uint8 `[H, W, 3]`; light grey where there is none.

    Other numbers of channels than 1 and 3 have no colours: their mean is shown.
    """
    if image.shape[-1] != 3:
        image = image.mean(-1, keepdims=True).repeat(3, -1)
    image = np.where(np.isnan(image), 0.93, image)
    return np.round(255 * image).astype(np.uint8)


class _Curves:
    """Vector entries over time, one small plot for each component and sequence.

    Everything is drawn once: the truth, and over it the truth with the prediction.
    `until` joins the two at a step, so that a video costs two drawings.
    """

    def __init__(self, result: OpenLoop, width: int):
        self.steps = result.size[1]
        entries, names, truth, model = _components(result)
        shown = _spread(entries, truth, 3 if result.images else 6)
        columns = min(3, result.size[0])
        height = 64 + 116 * (len(shown) + 1) - 28  # 88 pixels each, 28 between
        figure = Figure(figsize=(width / 100, height / 100), dpi=100)
        canvas = FigureCanvasAgg(figure)
        with mpl.rc_context({"font.size": 9, "axes.titlesize": 9}):
            grid = figure.subplots(
                len(shown) + 1, columns, sharex=True, sharey="row", squeeze=False
            )
            figure.subplots_adjust(
                left=56 / width,
                right=1 - MARGIN / width,
                top=1 - 24 / height,
                bottom=40 / height,
                hspace=28 / 88,
                wspace=0.05,
            )
            times = np.arange(1, self.steps + 1)
            later = []  # the lines that a video reveals
            edge = result.context + 0.5
            for row, component in enumerate([*shown, None]):
                if component is None:
                    expected, values = None, _relative_error(truth, model)
                    what = f"mean error of all {len(names)}, in standard deviations"
                    # Beyond 5 the exact height of a failure does not matter.
                    highest = values.max(initial=1, where=np.isfinite(values))
                    limits = (0.0, 1.1 * min(float(highest), 5))
                else:
                    expected, values = truth[..., component], model[..., component]
                    what, limits = names[component], _limits(expected, values)
                for column, axes in enumerate(grid[row]):
                    axes.axvspan(0.5, edge, color=_rgb(_tint(SEEN, 0.85)), lw=0)
                    if expected is not None:
                        axes.plot(times, expected[column], color=_rgb(INK), lw=1.5)
                    line = values[column]
                    style: Any = {"lw": 2, "ls": (0, (2.5, 1.2))}
                    if expected is None:
                        style = {"lw": 2}
                    early = np.where(times <= result.context, line, np.nan)
                    # The two colours meet at the last step that was seen.
                    late = np.where(times >= result.context, line, np.nan)
                    later += axes.plot(times, late, color=_rgb(IMAGINED), **style)
                    later += axes.plot(times, early, color=_rgb(SEEN), **style)
                    axes.set(xlim=(0.5, self.steps + 0.5), ylim=limits)
                    axes.xaxis.set_major_locator(
                        MaxNLocator(8, integer=True, steps=[1, 2, 5, 10])
                    )
                    axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
                    axes.spines[["top", "right"]].set_visible(False)
                    axes.spines[["left", "bottom"]].set_color(_rgb(PAST_END))
                    axes.tick_params(length=0, labelcolor=_rgb(MUTED), labelsize=8)
                    axes.grid(color="#e4e8ed", lw=0.8)
                    axes.set_axisbelow(True)
                    if column == 0:
                        axes.set_title(what, loc="left", weight="bold", pad=3)
            for axes in grid[-1]:
                axes.set_xlabel("decision", color=_rgb(MUTED), labelpad=1)
            if len(shown) < len(names):
                grid[0][-1].set_title(
                    f"{len(shown)} of {len(names)} numbers, those that vary most",
                    loc="right",
                    color=_rgb(MUTED),
                    pad=3,
                )
            self.whole = _rendered(canvas)
            for line in later:
                line.set_visible(False)
            self.blank = _rendered(canvas)
        self.boxes = []  # of each plot: top, bottom, left, and the steps' columns
        for axes in grid.flat:
            box = axes.get_window_extent()
            at = axes.transData.transform([(t, 0) for t in times])[:, 0]
            edges = (height - box.y1, height - box.y0, box.x0)
            self.boxes.append((*(round(e) for e in edges), at.round().astype(int)))

    def until(self, step: int) -> Image.Image:
        """The prediction up to a step; a line shows where that is."""
        if step == self.steps - 1:
            return Image.fromarray(self.whole)
        pixels = self.blank.copy()
        for top, bottom, left, columns in self.boxes:
            x = columns[step]
            pixels[top:bottom, left:x] = self.whole[top:bottom, left:x]
            pixels[top:bottom, x : x + 2] = PAST_END
        return Image.fromarray(pixels)


def _components(
    result: OpenLoop,
) -> tuple[list[str], list[str], np.ndarray, np.ndarray]:
    """All N numbers of the vector entries.

    Returns:
      The entry of each, its name, truth and model `[B, T, N]`.
    """
    entries: list[str] = []
    names: list[str] = []
    truth, model = [], []
    for name in result.vectors:
        batch, shape = result.size, result.truth[name].shape[2:]
        indices = list(np.ndindex(shape))
        entries += [name] * len(indices)
        names += [f"{name}{list(i) if len(indices) > 1 else ''}" for i in indices]
        truth.append(result.truth[name].reshape(*batch, -1))
        model.append(result.model[name].reshape(*batch, -1))
    return entries, names, np.concatenate(truth, -1), np.concatenate(model, -1)


def _spread(entries: Sequence[str], truth: np.ndarray, most: int) -> list[int]:
    """Components to show: from each entry in turn the one that varies most."""
    waiting: dict[str, list[int]] = {entry: [] for entry in entries}
    for index in np.argsort(-truth.std((0, 1)), kind="stable").tolist():
        waiting[entries[index]].append(index)
    turns = itertools.zip_longest(*waiting.values())
    return sorted([i for turn in turns for i in turn if i is not None][:most])


def _relative_error(truth: np.ndarray, model: np.ndarray) -> np.ndarray:
    """Absolute error in standard deviations of the truth, `[B, T]`.

    The mean over components; those that never change have no scale and are left
    out.
    """
    deviation = truth.std((0, 1))
    moving = deviation > 1e-6
    if not moving.any():
        return np.zeros(truth.shape[:2])
    return (np.abs(model - truth)[..., moving] / deviation[moving]).mean(-1)


def _limits(truth: np.ndarray, model: np.ndarray) -> tuple[float, float]:
    """Of the y axis: all of the truth, and the prediction unless it is far away."""
    low, high = float(truth.min()), float(truth.max())
    room = max(high - low, 0.05 * abs(high), 1e-2)
    there = np.isfinite(model)
    least = model.min(initial=low, where=there)
    most = model.max(initial=high, where=there)
    low, high = max(float(least), low - room), min(float(most), high + room)
    return low - 0.1 * room, high + 0.1 * room


def _rendered(canvas: FigureCanvasAgg) -> np.ndarray:
    canvas.draw()
    return np.array(np.asarray(canvas.buffer_rgba())[..., :3])


def _stack(parts: Sequence[Image.Image]) -> np.ndarray:
    """Below each other, on paper of even height and width."""
    width = max(part.width for part in parts)
    height = sum(part.height for part in parts) + GAP
    picture = Image.new("RGB", (width + width % 2, height + height % 2), PAPER)
    y = 0
    for part in parts:
        picture.paste(part, (0, y))
        y += part.height
    return np.asarray(picture)


@functools.cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font of the plots, which matplotlib brings along."""
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{mpl.get_data_path()}/fonts/ttf/{name}", size)


def _tint(colour: Color, white: float) -> Color:
    mixed = [round(c + white * (255 - c)) for c in colour]
    return mixed[0], mixed[1], mixed[2]


def _rgb(colour: Color) -> tuple[float, float, float]:
    return colour[0] / 255, colour[1] / 255, colour[2] / 255


# --- During training -----------------------------------------------------------


def training_picture(
    agent: Agent, replay: Any, seed: Sequence[int], title: str
) -> np.ndarray | None:
    """A strip from replayed sequences; the run goes on as if it was never drawn.

    Returns:
      uint8 `[H, W, 3]`; None where sequences are too short to predict anything.
    """
    context = min(CONTEXT, (replay.length - 1) // 2)
    if context < 1:
        return None
    batch = replay.peek(seed)
    # Whole ones first: a sequence may go on with the next episode.
    order = np.argsort(batch["is_first"][:, 1:].any(1), kind="stable")[:3]
    chosen = {name: values[order] for name, values in batch.items()}
    return strip(predict(agent, chosen, context), title)


# --- The command ----------------------------------------------------------------


def film_run(
    path: Path,
    out: Path | None = None,
    episodes: int = 1,
    context: int = CONTEXT,
    horizon: int = 45,
    fps: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
) -> list[Path]:
    """Plays episodes with the newest checkpoint and films prediction and policy.

    Args:
      path: the run's logdir.
      out: directory of the files; `videos` in the logdir if None.
      episodes: how many, the same that `evaluate` would play.
      context: decisions whose observations the model sees.
      horizon: decisions that it predicts after them.
      fps: decisions per second; None for 10 (prediction) and 30 (policy).
      seed: chooses the episodes.
      say: receives a sentence if the environment cannot be rendered.

    Returns:
      The files: openloop.mp4, .gif and .png, policy.mp4 and .gif.

    Raises:
      UserError: no checkpoint, no episode that is long enough, or a directory that
        cannot be written.
    """
    run = logdir.read(path)
    saved = checkpoint.latest(path / logdir.CHECKPOINTS)
    frames = checkpoint.read(saved, "loop")["progress"]["frames"]
    out = _writable(path / "videos" if out is None else out)
    agent = load_agent(saved)
    title = heading(run.version, run.task, frames)
    visible = _renders(run, say)
    with one_env(run, pictures=visible or None) as env:
        played, written = _play(
            agent, env, episodes, (seed, BY_HAND), out, visible, fps or POLICY_FPS
        )
    batch = _batch(played, context, horizon)
    result = predict(agent, batch, context)
    result = _cut(result, context + horizon)
    pictures = list(animate(result, title))
    fps = fps or OPENLOOP_FPS
    with _replacing(out / "openloop.mp4") as file, _mp4(file, fps) as video:
        for picture in pictures:
            video.append_data(picture)
    with _replacing(out / "openloop.gif") as file:
        _gif(file, pictures, fps)
    with _replacing(out / "openloop.png") as file:
        Image.fromarray(strip(result, title)).save(file)
    return [*(out / f"openloop.{kind}" for kind in ("mp4", "gif", "png")), *written]


def _play(
    agent: Agent,
    env: Any,
    episodes: int,
    seed: Sequence[int],
    out: Path,
    visible: bool,
    fps: int,
) -> tuple[list[dict[str, np.ndarray]], list[Path]]:
    """Plays episodes and films them.

    Returns:
      For each episode the stacked rows `[T, ...]` as replay would hold them; and
      the files.
    """
    played, few = [], _Few(GIF_FRAMES)
    with contextlib.ExitStack() as stack:
        if visible:
            file = stack.enter_context(_replacing(out / "policy.mp4"))
            video = stack.enter_context(_mp4(file, fps))
        for number in range(episodes):
            rows, score = [], 0.0
            state = agent.initial_state(1)
            record = env.reset(seed=episode_seed(seed, 0, number))
            while True:
                names = [*env.obs_space.spaces, "is_first"]
                obs = {name: record[name][None] for name in names}
                action, state = agent.policy(obs, state, "eval")
                latents = {name: np.asarray(state[name])[0] for name in agent.latents}
                rows.append({**record, **latents})
                score += float(record["reward"])
                if visible:
                    text = f"episode {number + 1}   decision {len(rows) - 1}"
                    picture = _scene(env.render(POLICY_SIZE), text, score)
                    video.append_data(picture)
                    few.add(picture)
                if record["is_last"]:
                    break
                record = env.step(action[0])
            played.append({k: np.stack([row[k] for row in rows]) for k in rows[0]})
    if not visible:
        return played, []
    with _replacing(out / "policy.gif") as file:
        _gif(file, few.kept, fps / few.stride)
    return played, [out / "policy.mp4", out / "policy.gif"]


def _renders(run: RunConfig, say: Callable[[str], None]) -> bool:
    """Whether the environment can be filmed; agents of vectors need no pictures."""
    with one_env(run, pictures=True) as env:
        env.reset(seed=0)
        try:
            env.render(POLICY_SIZE)
        except UserError as error:
            say(f"There will be no film of the policy: {error}")
            return False
    return True


def _batch(
    played: Sequence[Mapping[str, np.ndarray]], context: int, horizon: int
) -> dict[str, np.ndarray]:
    """Up to `SEQUENCES` sequences from the episodes, evenly spread, none twice.

    They have one row more than is predicted: DreamerV3 starts from its latents.
    """
    need = context + horizon + 1
    rows = [len(episode["reward"]) for episode in played]
    longest = max(rows) - 1
    if need > max(rows):
        raise UserError(
            f"--context={context} and --horizon={horizon} need an episode of "
            f"{need - 1} decisions, but the longest has {longest}: "
            + (
                f"give --horizon={longest - context} or less."
                if longest > context
                else f"give --context={max(1, longest // 2)} and a shorter --horizon."
            )
        )
    each = max(1, SEQUENCES // len(played))
    pieces = [
        {name: values[start : start + need] for name, values in episode.items()}
        for episode, count in zip(played, rows)
        for start in np.linspace(0, count - need, min(each, count // need), dtype=int)
    ][:SEQUENCES]
    batch = {name: np.stack([piece[name] for piece in pieces]) for name in pieces[0]}
    batch["is_first"][:, 0] = True  # the model starts anew there
    return batch


def _cut(result: OpenLoop, steps: int) -> OpenLoop:
    """The first steps of every sequence."""
    truth = {name: values[:, :steps] for name, values in result.truth.items()}
    model = {name: values[:, :steps] for name, values in result.model.items()}
    return OpenLoop(truth, model, result.context, result.ended[:, :steps])


def _scene(picture: np.ndarray, text: str, score: float) -> np.ndarray:
    """A picture of the environment above a line of text."""
    bar = Image.new("RGB", (picture.shape[1], 26), PAPER)
    draw = ImageDraw.Draw(bar)
    draw.text((8, 13), text, INK, _font(13), anchor="lm")
    score_text = f"return {score:.1f}"
    draw.text((bar.width - 8, 13), score_text, INK, _font(13), anchor="rm")
    return _stack([Image.fromarray(picture), bar])


class _Few:
    """Keeps every n-th of an unknown number of pictures, n as small as possible."""

    def __init__(self, most: int):
        self.most, self.stride, self.count = most, 1, 0
        self.kept: list[np.ndarray] = []

    def add(self, picture: np.ndarray) -> None:
        if self.count % self.stride == 0:
            self.kept.append(picture)
        self.count += 1
        if len(self.kept) > self.most:
            self.kept, self.stride = self.kept[::2], 2 * self.stride


# --- Files ----------------------------------------------------------------------


def _writable(directory: Path) -> Path:
    """Makes the directory; better to fail now than after playing."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(
            f"--out={directory} cannot be written: {error.strerror}."
        ) from error
    return directory


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A name to write under; the file gets its own when it is complete."""
    temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"{path} cannot be written ({reason}).") from error
    finally:
        temporary.unlink(missing_ok=True)


def _mp4(path: Path, fps: int) -> Any:
    """A writer of H.264, for pictures of even height and width."""
    return imageio.get_writer(
        path, fps=fps, codec="libx264", quality=8, macro_block_size=2
    )


def _gif(path: Path, pictures: Sequence[np.ndarray], fps: float) -> None:
    """An endless GIF; its last picture stays for a second and a half.

    All pictures share 256 colours, so that nothing flickers: first those that carry
    a meaning, then what suits the film.
    """
    some = [pictures[i] for i in np.linspace(0, len(pictures) - 1, 5).astype(int)]
    mosaic = Image.fromarray(np.concatenate(some))
    # Not the default, median cut: it forgets what is small, such as a limb.
    fitting = mosaic.quantize(256 - len(FIXED), Image.Quantize.MAXCOVERAGE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*np.ravel(FIXED).tolist(), *(fitting.getpalette() or [])])
    images = [Image.fromarray(p).quantize(palette=palette) for p in pictures]
    durations = [1000 / fps] * (len(images) - 1) + [1500]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=durations, loop=0
    )
