"""`run.py video`: films of a run's newest checkpoint.

Episodes are played; `openloop` shows what the model predicts of them, `policy` what
the environment looks like. `pictures.py` draws the predictions.
"""

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import imageio.v2 as imageio
import numpy as np
from matplotlib.font_manager import findfont
from PIL import Image, ImageColor, ImageDraw, ImageFont

from dreamer_tf import pictures
from dreamer_tf.agent import Agent
from dreamer_tf.configs.run import RunConfig
from dreamer_tf.envs import episode_seed
from dreamer_tf.errors import UserError
from dreamer_tf.files import replacing
from dreamer_tf.training import logdir
from dreamer_tf.training.build import one_env
from dreamer_tf.training.evaluate import cut_at
from dreamer_tf.training.experience import BY_HAND
from dreamer_tf.training.load import newest

SEQUENCES = 6  # side by side, at most
GIF_FRAMES = 200  # of the policy, at most: GIFs are large
OPENLOOP_FPS, POLICY_FPS = 10, 30
POLICY_SIZE = 320  # pixels
LONGEST = 10_000  # decisions after which an episode is cut
FONT = findfont("DejaVu Sans")  # matplotlib brings it along


def film_run(
    path: Path,
    out: Path | None = None,
    episodes: int = 1,
    context: int = pictures.CONTEXT,
    horizon: int = 45,
    fps: int | None = None,
    seed: int = 0,
    say: Callable[[str], None] = print,
    length: int | None = None,
    count: Callable[[str], None] = lambda text: None,
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
      say: receives a sentence if the environment cannot be rendered, or if an episode
        is cut.
      length: longest episode in frames; None: as in the run.
      count: receives how far it is, such as "episode 1 of 1: decision 20".

    Returns:
      The files: openloop.mp4, .gif and .png, policy.mp4 and .gif.

    Raises:
      UserError: no checkpoint, no episode that is long enough, or a directory that
        cannot be written.
    """
    run = logdir.read(path)
    if length is not None:
        run = dataclasses.replace(run, length=length)
    agent, trained = newest(path)
    out = _writable(path / "videos" if out is None else out)
    title = pictures.heading(run.version, run.task, trained)
    visible = _renders(run, say)
    with one_env(run, pictures=visible or None) as env:
        numbers = (episodes, (seed, BY_HAND), cut_at(run, LONGEST))
        played, written = _play(
            agent, env, *numbers, out, visible, fps or POLICY_FPS, say, count
        )
    batch = _batch(played, context, horizon)
    count("predicting")
    result = pictures.predict(agent, batch, context).first(context + horizon)
    frames = []
    for frame in pictures.animate(result, title):
        frames.append(frame)
        count(f"openloop: picture {len(frames)} of {context + horizon}")
    count("writing the files")
    fps = fps or OPENLOOP_FPS
    with replacing(out / "openloop.mp4") as file, _mp4(file, fps) as film:
        for frame in frames:
            film.append_data(frame)
    with replacing(out / "openloop.gif") as file:
        _gif(file, frames, fps)
    with replacing(out / "openloop.png") as file:
        Image.fromarray(pictures.strip(result, title)).save(file)
    return [*(out / f"openloop.{kind}" for kind in ("mp4", "gif", "png")), *written]


def _play(
    agent: Agent,
    env: Any,
    episodes: int,
    seed: Sequence[int],
    longest: int,
    out: Path,
    visible: bool,
    fps: int,
    say: Callable[[str], None],
    count: Callable[[str], None],
) -> tuple[list[dict[str, np.ndarray]], list[Path]]:
    """Plays episodes and films them, if they are `visible`.

    Returns:
      For each episode its rows, stacked `[T, ...]` as replay would hold them; and the
      files, none if there is no film.
    """
    played, few = [], _Few(GIF_FRAMES)
    with contextlib.ExitStack() as stack:
        if visible:
            file = stack.enter_context(replacing(out / "policy.mp4"))
            film = stack.enter_context(_mp4(file, fps))
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
                count(f"episode {number + 1} of {episodes}: decision {len(rows) - 1}")
                if visible:
                    text = f"episode {number + 1}   decision {len(rows) - 1}"
                    frame = _scene(env.render(POLICY_SIZE), text, score)
                    film.append_data(frame)
                    few.add(frame)
                if record["is_last"]:
                    break
                if len(rows) > longest:
                    say(
                        f"Episode {number + 1} had not ended after {longest:,} "
                        "decisions and is cut there: --length=FRAMES sets a limit."
                    )
                    break
                record = env.step(action[0])
            played.append({k: np.stack([row[k] for row in rows]) for k in rows[0]})
    if not visible:
        return played, []
    with replacing(out / "policy.gif") as file:
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


def _scene(picture: np.ndarray, text: str, score: float) -> np.ndarray:
    """A picture of the environment above a line of text, of even height and width."""
    height, width = picture.shape[:2]
    scene = Image.new("RGB", (width + width % 2, height + 32 + height % 2), "white")
    scene.paste(Image.fromarray(picture))
    draw, font = ImageDraw.Draw(scene), ImageFont.truetype(FONT, 13)
    style: dict[str, Any] = {"fill": pictures.INK, "font": font}
    draw.text((8, height + 13), text, anchor="lm", **style)
    draw.text((width - 8, height + 13), f"return {score:.1f}", anchor="rm", **style)
    return np.asarray(scene)


class _Few:
    """Keeps every n-th of a film's frames, n as small as `most` of them allow."""

    def __init__(self, most: int):
        self.most, self.stride, self.count = most, 1, 0
        self.kept: list[np.ndarray] = []

    def add(self, frame: np.ndarray) -> None:
        if self.count % self.stride == 0:
            self.kept.append(frame)
        self.count += 1
        if len(self.kept) > self.most:
            self.kept, self.stride = self.kept[::2], 2 * self.stride


# --- Files ----------------------------------------------------------------------


def _writable(directory: Path) -> Path:
    """Makes the directory and tries to write in it, before any episode is played."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=directory):
            pass
    except OSError as error:
        raise UserError(
            f"--out={directory} cannot be written: {error.strerror}."
        ) from error
    return directory


def _mp4(path: Path, fps: int) -> Any:
    """A writer of H.264, for frames of even height and width."""
    return imageio.get_writer(
        path, fps=fps, codec="libx264", quality=8, macro_block_size=2
    )


def _gif(path: Path, frames: Sequence[np.ndarray], fps: float) -> None:
    """Writes an endless GIF; its last frame stays for a second and a half.

    All frames share 256 colours, so that nothing flickers (matplotlib's writer gives
    each frame colours of its own): the colours of the curves and borders, and others
    that suit the film.
    """
    some = [frames[i] for i in np.linspace(0, len(frames) - 1, 5).astype(int)]
    mosaic = Image.fromarray(np.concatenate(some))
    fixed = [channel for c in pictures.COLOURS for channel in ImageColor.getrgb(c)]
    # Not the default, median cut: it forgets what is small, such as a limb.
    fitting = mosaic.quantize(256 - len(fixed) // 3, Image.Quantize.MAXCOVERAGE)
    palette = Image.new("P", (1, 1))
    palette.putpalette([*fixed, *(fitting.getpalette() or [])])
    images = [Image.fromarray(frame).quantize(palette=palette) for frame in frames]
    durations = [1000 / fps] * (len(images) - 1) + [1500]
    images[0].save(
        path, save_all=True, append_images=images[1:], duration=durations, loop=0
    )
