"""Open-loop predictions, as data and as pictures.

A model sees the first steps of a sequence and predicts the others from the actions
alone. `animate` draws the prediction step by step, for a video; `strip` draws it as one
still picture, for TensorBoard and talks. Images are rows of truth, model and error;
vectors are curves over time. Blue is what the model has seen, orange what it imagined.

Figures have 72 dots per inch: a point, matplotlib's unit of sizes, is one pixel.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator

from dreamer_tf.agent import Agent

# Colours that colour-blind readers can tell apart (Okabe and Ito).
SEEN, IMAGINED = "#0072b2", "#e67800"
PAST_END, INK, MUTED, PAPER = "#aab2bc", "#1b2430", "#5c6876", "#ffffff"
COLOURS = (SEEN, IMAGINED, PAST_END, INK, MUTED, PAPER)

CONTEXT = 5  # steps that the model sees, by default
DPI = 72
WIDTH = 900  # of a picture, in pixels; more where many images need it
MARGIN, GAP, BORDER, LABELS = 12, 6, 4, 80  # pixels
DASHES = (0, (2.5, 1.2))  # of the model's curves, in line widths


@dataclasses.dataclass(frozen=True)
class OpenLoop:
    """Observations beside their prediction.

    Attributes:
      truth, model: observation entry -> float32 `[B, T, ...]`; images in [0, 1],
        vectors in their own units.
      context: the number of steps that the model has seen.
      ended: bool `[B, T]`, true after the predicted episode is over. There the model
        is NaN: from actions alone it cannot know that another episode has begun.
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
        return [name for name, values in self.truth.items() if values.ndim == 5]

    @property
    def vectors(self) -> list[str]:
        return [name for name, values in self.truth.items() if values.ndim < 5]

    def first(self, steps: int) -> "OpenLoop":
        """The first steps of every sequence."""
        truth = {name: values[:, :steps] for name, values in self.truth.items()}
        model = {name: values[:, :steps] for name, values in self.model.items()}
        return OpenLoop(truth, model, self.context, self.ended[:, :steps])


def predict(agent: Agent, batch: Mapping[str, np.ndarray], context: int) -> OpenLoop:
    """Lets the agent predict the last rows of a batch.

    Args:
      batch: `[B, T, ...]` as from replay. Rows that the agent only replays to start
        from (`agent.report` leaves them out) come first, then `context` rows that the
        model sees, then those that it predicts.
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


def training_picture(
    agent: Agent, replay: Any, seed: Sequence[int], title: str
) -> np.ndarray | None:
    """A strip from replayed sequences; drawing it changes nothing in the run.

    Returns:
      uint8 `[H, W, 3]`; None where sequences are too short to predict anything.
    """
    context = min(CONTEXT, (replay.length - 1) // 2)
    if context < 1:
        return None
    batch = replay.peek(seed)
    # Sequences of one episode come before those that go on with the next episode.
    order = np.argsort(batch["is_first"][:, 1:].any(1), kind="stable")[:3]
    chosen = {name: values[order] for name, values in batch.items()}
    return strip(predict(agent, chosen, context), title)


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
    cells = [(sequence, None) for sequence in range(sequences)]
    parts: list[Any] = [_Header(result, title, moving=True)]
    parts += [_Images(result, name, cells) for name in result.images]
    parts += [_Curves(result)] if result.vectors else []
    return _draw(parts, range(steps))


def strip(result: OpenLoop, title: str) -> np.ndarray:
    """Chosen steps side by side, up to two sequences below each other.

    Returns:
      uint8 `[H, W, 3]`.
    """
    sequences, steps = result.size
    chosen = _chosen_steps(result)
    parts: list[Any] = [_Header(result, title, moving=False)]
    parts += [
        _Images(result, name, [(sequence, step) for step in chosen])
        for name in result.images
        for sequence in range(min(2, sequences))
    ]
    parts += [_Curves(result)] if result.vectors else []
    return next(_draw(parts, [steps - 1]))


def _chosen_steps(result: OpenLoop) -> list[int]:
    """Up to 3 steps that were seen and 7 that were imagined, evenly spread."""
    context, steps = result.context, result.size[1]
    seen = np.linspace(0, context - 1, min(3, context))
    imagined = np.linspace(context, steps - 1, min(7, steps - context))
    return np.unique(np.round([*seen, *imagined]).astype(int)).tolist()


# --- The page and its parts ---------------------------------------------------------
#
# A part has a `width` and a `height` in pixels. `draw` makes its artists, once;
# `show` sets those that change and yields them in the order of drawing.


def _draw(parts: Sequence[Any], steps: Iterable[int]) -> Iterator[np.ndarray]:
    """Draws the parts below each other, at each of the steps.

    What changes is drawn over a background that is drawn only once: to draw the whole
    figure again for every step would take ten times as long.

    Yields:
      uint8 `[H, W, 3]` of even height and width.
    """
    width = max(part.width for part in parts)
    width += width % 2
    heights = [part.height for part in parts]
    heights.append(GAP + (sum(heights) + GAP) % 2)  # empty, at the foot
    size = (width / DPI, sum(heights) / DPI)
    figure = Figure(size, dpi=DPI, facecolor=PAPER)
    canvas = FigureCanvasAgg(figure)
    rooms: Any = figure.subfigures(len(heights), 1, height_ratios=heights)
    for part, room in zip(parts, rooms):
        part.draw(room)
    canvas.draw()
    background = canvas.copy_from_bbox(figure.bbox)
    for step in steps:
        canvas.restore_region(background)
        for artist in itertools.chain(*(part.show(step) for part in parts)):
            figure.draw_artist(artist)
        yield np.array(np.asarray(canvas.buffer_rgba())[..., :3])


def _paper(room: SubFigure) -> Axes:
    """Empty axes whose units are the room's pixels, counted from the top left."""
    width, height = room.bbox.size
    axes = room.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set(xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    return axes


class _Header:
    """Title and legend; in a video also the time, as a number and as a bar."""

    width = WIDTH

    def __init__(self, result: OpenLoop, title: str, moving: bool):
        self.title, self.moving = title, moving
        self.context, self.steps = result.context, result.size[1]
        self.curves = bool(result.vectors)
        self.height = 84 if moving else 64

    def draw(self, room: SubFigure) -> None:
        axes, right = _paper(room), room.bbox.width - MARGIN
        style: dict[str, Any] = {"fontsize": 17, "weight": "bold"}
        style |= {"va": "center_baseline", "parse_math": False}
        title = axes.text(MARGIN, 20, self.title, color=INK, **style)
        space = right - MARGIN - (320 if self.moving else 0)
        for size in (17, 15, 13, 11, 9):
            title.set_fontsize(size)
            if title.get_window_extent().width <= space:
                break
        seen = f"seen: the model gets {self.context} observations"
        imagined = "imagined: +n decisions later, from actions alone"
        keys: list[Artist] = [Patch(color=SEEN, label=seen)]
        keys += [Patch(color=IMAGINED, label=imagined)]
        if self.curves:
            keys += [Line2D([], [], color=INK, lw=2, label="truth")]
            keys += [Line2D([], [], color=INK, lw=2.8, ls=DASHES, label="model")]
        legend: dict[str, Any] = {"ncols": len(keys), "frameon": False}
        legend |= {"fontsize": 14, "labelcolor": INK, "handletextpad": 0.5}
        legend |= {"columnspacing": 1.3, "borderpad": 0, "borderaxespad": 0}
        legend["handlelength"] = 1.6
        where = {"bbox_to_anchor": (MARGIN, 48), "bbox_transform": axes.transData}
        axes.legend(handles=keys, loc="center left", **where, **legend)
        if self.moving:
            self.now = axes.text(right, 20, "", ha="right", animated=True, **style)
            edges = np.linspace(MARGIN, right + 2, self.steps + 1).round()
            spans = [(a, b - a - 2) for a, b in itertools.pairwise(edges)]
            colours = [_colour(step, self.context) for step in range(self.steps)]
            bar: dict[str, Any] = {"color": colours, "lw": 0}
            axes.broken_barh(spans, (68, 9), alpha=0.25, **bar)
            self.bar = axes.broken_barh(spans, (68, 9), animated=True, **bar)

    def show(self, step: int) -> Iterator[Artist]:
        if not self.moving:
            return
        ahead = step - self.context + 1
        text = f"imagined +{ahead}" if ahead > 0 else "seen"
        text += f"   decision {step + 1:>{len(str(self.steps))}} of {self.steps}"
        self.now.set(text=text, color=_colour(step, self.context))
        self.bar.set_alpha([float(one <= step) for one in range(self.steps)])
        yield self.now
        yield self.bar


class _Images:
    """Rows truth, model, error of an image entry; a column for each cell.

    A single cell would leave most of the width empty: its three are side by side.

    Args:
      result: of the prediction.
      name: of the entry.
      cells: (sequence, step) of the columns; None for the step that a video shows.
    """

    def __init__(
        self, result: OpenLoop, name: str, cells: Sequence[tuple[int, int | None]]
    ):
        self.name = name if len(result.images) > 1 else ""  # told if there are several
        self.truth, self.model = result.truth[name], result.model[name]
        self.context, self.ended, self.cells = result.context, result.ended, cells
        self.across = len(cells) == 1
        columns = 3 if self.across else len(cells)
        self.left = MARGIN if self.across else MARGIN + LABELS
        height, width = self.truth.shape[2:4]
        fits = (WIDTH - MARGIN - self.left) // columns - GAP - 2 * BORDER
        most = 150 if result.vectors and not self.across else 280
        scale = min(most, max(128, fits)) / max(height, width)
        self.tile = round(width * scale), round(height * scale)
        self.right, self.down = (side + 2 * BORDER + GAP for side in self.tile)
        self.still = cells[0][1] is not None  # then there are captions
        self.top = 24 * bool(self.name) + (24 if self.still or self.across else GAP)
        self.width = self.left + columns * self.right - GAP + MARGIN
        self.height = self.top + (1 if self.across else 3) * self.down

    def draw(self, room: SubFigure) -> None:
        axes, (width, height) = _paper(room), self.tile
        pixels = np.zeros((*self.truth.shape[2:4], 3), np.uint8)
        # Crisp pixels; only a picture that is larger than its place is smoothed.
        how = "nearest" if len(pixels) <= height else "auto"
        bold: dict[str, Any] = {"weight": "bold", "parse_math": False}
        bold |= {"va": "center_baseline"}
        axes.text(MARGIN, 12, self.name, color=INK, fontsize=15, **bold)
        note: dict[str, Any] = {"color": MUTED, "fontsize": 10}
        self.tiles = []
        for row, label in enumerate(("truth", "model", "error")):
            if self.across:
                x, y = self.left + row * self.right, self.top - 11
                hint, at = "model - truth, grey: equal", (x + 52, y)
                note["va"] = "center_baseline"
            else:
                x, y = MARGIN, self.top + row * self.down + height // 2
                hint, at = "model - truth\ngrey: equal", (x, y + 12)
                note["va"] = "top"
            axes.text(x, y, label, color=INK, fontsize=15, **bold)
            if label == "error":
                axes.text(*at, hint, **note)
            for column in range(len(self.cells)):
                x = self.left + (row if self.across else column) * self.right + BORDER
                y = self.top + (0 if self.across else row) * self.down + BORDER
                # The inner half of the line is behind the image.
                border = Rectangle((x, y), width, height, lw=2 * BORDER, fill=False)
                image = axes.imshow(
                    pixels,
                    extent=(x, x + width, y + height, y),
                    aspect="auto",
                    interpolation=how,
                    animated=True,
                )
                axes.add_patch(border).set_animated(True)
                self.tiles.append((label, self.cells[column], border, image))
        for column, (sequence, step) in enumerate(self.cells):
            if step is not None:
                ahead = step - self.context + 1
                text, colour = f"+{ahead}", _colour(step, self.context)
                text = text if ahead > 0 else f"seen {step + 1}"
                if self.ended[sequence, step]:
                    text, colour = "next episode", MUTED
                x = self.left + column * self.right + BORDER + width // 2
                style = {"ha": "center", "fontsize": 14, "color": colour, **bold}
                axes.text(x, self.top - 11, text, **style)

    def show(self, step: int) -> Iterator[Artist]:
        for label, (sequence, fixed), border, image in self.tiles:
            cell = sequence, step if fixed is None else fixed
            truth, model = self.truth[cell], self.model[cell]
            rows = {"truth": truth, "model": model, "error": (model - truth + 1) / 2}
            image.set_data(_pixels(rows[label]))
            border.set_edgecolor(_colour(cell[1], self.context, self.ended[cell]))
            yield border
            yield image


def _colour(step: int, context: int, ended: bool = False) -> str:
    if ended:
        return PAST_END
    return SEEN if step < context else IMAGINED


def _pixels(image: np.ndarray) -> np.ndarray:
    """`[H, W, C]` in [0, 1] as uint8 `[H, W, 3]`; light grey where there is none.

    Other numbers of channels than 1 and 3 have no colours: their mean is shown.
    """
    if image.shape[-1] != 3:
        image = image.mean(-1, keepdims=True).repeat(3, -1)
    image = np.where(np.isnan(image), 0.93, image)
    return np.round(255 * image).astype(np.uint8)


class _Curves:
    """Vector entries over time: a row for each component, a column for each sequence.

    The last row is the mean error of all components. The truth is there from the
    start, the prediction up to the present step.
    """

    width = WIDTH

    def __init__(self, result: OpenLoop):
        self.context, (sequences, self.steps) = result.context, result.size
        entries, self.names, self.truth, self.model = _components(result)
        self.shown = _spread(entries, self.truth, 3 if result.images else 6)
        self.columns = min(3, sequences)
        # A row has 88 pixels; 28 are between two, 24 above the first, 40 for the axis.
        self.height = 24 + 116 * (len(self.shown) + 1) - 28 + 40

    def draw(self, room: SubFigure) -> None:
        width, height = room.bbox.size
        sides = {"left": 56 / width, "right": 1 - MARGIN / width, "wspace": 0.05}
        sides |= {"top": 1 - 24 / height, "bottom": 40 / height, "hspace": 28 / 88}
        shape = len(self.shown) + 1, self.columns
        share: dict[str, Any] = {"sharex": True, "sharey": "row", "squeeze": False}
        grid = room.subplots(*shape, **share, gridspec_kw=sides)
        self.lines: list[tuple[Line2D, np.ndarray]] = []  # and what they show at last
        self.cursors: list[Line2D] = []
        style: dict[str, Any] = {"fontsize": 12.5, "pad": 4, "parse_math": False}
        for row, component in zip(grid, self.shown):
            truth, model = self.truth[..., component], self.model[..., component]
            for axes, expected, predicted in zip(row, truth, model):
                times = np.arange(1, self.steps + 1)
                axes.plot(times, expected, color=INK, lw=2)
                self._plot(axes, predicted, lw=2.8, ls=DASHES)
            row[0].set_ylim(_limits(truth, model))
            row[0].set_title(self.names[component], loc="left", weight="bold", **style)
        error = _relative_error(self.truth, self.model)
        for axes, values in zip(grid[-1], error):
            self._plot(axes, values, lw=2.8)
            axes.set_xlabel("decision", color=MUTED, fontsize=12.5, labelpad=1)
        # Beyond 5 the exact height of a failure does not matter.
        highest = error.max(initial=1, where=np.isfinite(error))
        grid[-1][0].set_ylim(0, 1.1 * min(float(highest), 5))
        text = f"mean error of all {len(self.names)}, in standard deviations"
        grid[-1][0].set_title(text, loc="left", weight="bold", **style)
        if len(self.shown) < len(self.names):
            text = f"{len(self.shown)} of {len(self.names)} numbers"
            text += ", those that vary most"
            grid[0][-1].set_title(text, loc="right", color=MUTED, **style)

    def _plot(self, axes: Axes, values: np.ndarray, **style: Any) -> None:
        """Adds a prediction, which `show` reveals, and what all plots look like."""
        axes.axvspan(0.5, self.context + 0.5, color=SEEN, alpha=0.15, lw=0)
        times = np.arange(1, self.steps + 1)
        seen, imagined = times <= self.context, times >= self.context  # they meet
        for colour, part in ((IMAGINED, imagined), (SEEN, seen)):
            (line,) = axes.plot([], [], color=colour, animated=True, **style)
            self.lines.append((line, np.where(part, values, np.nan)))
        self.cursors.append(axes.axvline(1, color=PAST_END, lw=2, animated=True))
        axes.set_xlim(0.5, self.steps + 0.5)
        nice = [1, 2, 5, 10]
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=nice))
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=nice))
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(PAST_END)
        axes.tick_params(length=0, labelcolor=MUTED, labelsize=11)
        axes.grid(color="#e4e8ed", lw=1)
        axes.set_axisbelow(True)

    def show(self, step: int) -> Iterator[Artist]:
        times = np.arange(1, step + 2)
        for line, values in self.lines:
            line.set_data(times, values[: step + 1])
            yield line
        if step < self.steps - 1:
            for cursor in self.cursors:
                cursor.set_xdata([step + 1, step + 1])
                yield cursor


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
