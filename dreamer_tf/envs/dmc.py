"""The DeepMind Control Suite, as the Dreamer papers use it.

Follows danijar/dreamer (wrappers.py), danijar/dreamerv2 (common/envs.py) and
danijar/dreamerv3 (embodied/envs/dmc.py), which agree on what is done here: cameras,
action repeat, normalised actions, entries as in the suite. What they differ in (how
often an action is repeated, image or vectors) is an argument.
"""

import functools
from typing import Any

import numpy as np
from gymnasium import spaces

from dreamer_tf.envs import gl
from dreamer_tf.envs.base import (
    ActionScale,
    Env,
    Own,
    OwnAction,
    OwnEntry,
    Record,
    action_box,
    box,
    check_obs,
    image_box,
)
from dreamer_tf.envs.choice import choose
from dreamer_tf.envs.foreign import calling
from dreamer_tf.errors import UserError

# Camera 0 of the quadruped does not follow it. The rodent is no task of the suite
# itself; its entry completes the official rule.
CAMERAS = {"quadruped": 2, "rodent": 4}

# How MuJoCo writes that an actuator has no limit (mjMAXVAL). To stretch [-1, 1] over
# that, as the official code would for the two lqr tasks, leaves nothing to control.
UNLIMITED = 1e10

_VERSIONS = "dm_control==1.0.50 needs mujoco==3.17.0 (mujoco 4 breaks every task)"


class DMC(Env):
    """One task of the suite.

    Args:
        task: `<domain>_<task>`, with or without `dmc_` before it.
        seed: of the random stream that episodes without a seed of their own go on
            with, and of the masses and springs of the two lqr tasks, which the suite
            draws once per environment.
        repeat: frames per decision.
        size: height and width of images.
        obs: "proprio", "image" or "both". Vectors alone never render.
        camera: number of the camera, None for the papers' choice.
        length: frames after which episodes are cut, 0 for the suite's 1000.
        fast_render: no multi-sampling, but means of 2x2 pixels, and a small shadow map:
            several times faster in software, but slightly different pixels, so no
            published protocol uses it.
    """

    def __init__(
        self,
        task: str,
        seed: int = 0,
        repeat: int = 1,
        size: int = 64,
        obs: str = "proprio",
        camera: int | None = None,
        length: int = 0,
        fast_render: bool = False,
        obs_keys: str = "",
    ):
        check_obs(obs)
        domain, name = split(task)
        if obs != "proprio":
            gl.choose()
        with calling(f"{domain}_{name}", "load"):
            try:
                self._env = _suite().load(domain, name, task_kwargs={"random": seed})
            except AttributeError as error:
                raise UserError(
                    f"{domain}_{name} cannot be loaded: {error}; {_VERSIONS}."
                ) from error
        # quadruped_escape asks for the graphics context at every reset, to upload its
        # terrain. It gets none until there is a picture to draw, which uploads all.
        self._env.physics._make_rendering_contexts = lambda: None
        self._size = size
        self._camera = CAMERAS.get(domain, 0) if camera is None else camera
        model = self._env.physics.model
        if not -1 <= self._camera < model.ncam:
            raise UserError(
                f"camera is {camera}, but {domain} has the cameras 0 to "
                f"{model.ncam - 1} (and -1, which is free)."
            )
        # Drawn pixels per pixel of the picture, in both directions. With single samples
        # of 32x32 pixels the pole of cartpole, which is thinner, is often not seen.
        self._samples = 2 if fast_render else 1
        # The frame buffer must hold the picture; the suite's is 640 x 480.
        buffer = model.vis.global_
        buffer.offwidth = max(buffer.offwidth, size * self._samples)
        buffer.offheight = max(buffer.offheight, size * self._samples)
        if fast_render:
            model.vis.quality.offsamples = 0
            model.vis.quality.shadowsize = 512
        entries: dict[str, spaces.Space] = {}
        if obs != "proprio":
            entries["image"] = image_box(size, size)
        # Our name of each entry -> the suite's; entries without numbers are dropped.
        self._vectors: dict[str, str] = {}
        if obs != "image":
            for key, spec in self._env.observation_spec().items():
                if np.prod(spec.shape) > 0:
                    self._vectors[key.replace("/", "_")] = key
                    entries[key.replace("/", "_")] = box(spec.shape)
        entries, self.ignored = choose(entries, obs_keys)
        self._vectors = {n: key for n, key in self._vectors.items() if n in entries}
        action = self._env.action_spec()
        low = np.broadcast_to(action.minimum, action.shape)
        high = np.broadcast_to(action.maximum, action.shape)
        self._scale = ActionScale(
            np.where(low <= -UNLIMITED, -np.inf, low),
            np.where(high >= UNLIMITED, np.inf, high),
        )
        super().__init__(entries, action_box(action.shape[0]), repeat, length)
        self._title = f"{domain}_{name}"
        self._observation: dict[str, Any] = {}

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            # Every task draws from this one stream, and a reset takes the physics
            # back to the model's initial state, so nothing else needs a seed.
            self._env.task.random.seed(seed)
        self._observation = self._env.reset().observation

    def _frame(self, action: np.ndarray | int) -> tuple[float, bool, bool]:
        step = self._env.step(self._scale(action))
        self._observation = step.observation
        return float(step.reward), step.last(), step.last() and step.discount == 0

    def _observe(self) -> Record:
        record = {}
        if "image" in self.obs_space.spaces:
            record["image"] = self._picture(self._size)
        for name, key in self._vectors.items():
            with np.errstate(over="ignore"):  # infinity is noticed later
                record[name] = np.array(self._observation[key], np.float32)
        return record

    def render(self, size: int | None = None) -> np.ndarray:
        gl.choose()
        return self._picture(size or self._size)

    def own(self) -> Own:
        entries = []
        if "image" in self.obs_space.spaces:
            size = self._size
            call = f"env.physics.render({size}, {size}, camera_id={self._camera})"
            shape = (size, size, 3)
            entries.append(OwnEntry("image", call, (), shape, "uint8", "picture"))
        specs = self._env.observation_spec()
        for name, key in self._vectors.items():
            shape, dtype = specs[key].shape, str(specs[key].dtype)
            where = "time_step.observation", (key,)
            entries.append(OwnEntry(name, *where, shape, dtype, "vector"))
        spec = self._env.action_spec()
        return Own(tuple(entries), OwnAction(spec.shape, "float64", self._scale))

    def close(self) -> None:
        with calling(self._title, "close"):
            self._env.close()

    def _picture(self, size: int) -> np.ndarray:
        physics = self._env.physics
        vars(physics).pop("_make_rendering_contexts", None)
        # Large pictures, as for films, need no means, and may have no room for them.
        buffer = physics.model.vis.global_
        room = min(buffer.offwidth, buffer.offheight) // size
        k = self._samples if self._samples <= room else 1
        try:
            drawn = physics.render(size * k, size * k, camera_id=self._camera)
        except ValueError as error:
            reason = str(error).splitlines()[0]
            raise UserError(
                f"size is {size}, which MuJoCo refuses ({reason}): give make_env this "
                "size."
            ) from error
        except Exception as error:  # graphics libraries raise all sorts
            raise gl.failed(error) from error
        if k == 1:
            return drawn.copy()
        means = drawn.reshape(size, k, size, k, 3).mean((1, 3))
        return np.rint(means).astype(np.uint8)


def tasks() -> tuple[str, ...]:
    """All tasks of the suite, as `<domain>_<task>`."""
    return tuple(f"{domain}_{task}" for domain, task in _suite().ALL_TASKS)


def split(task: str) -> tuple[str, str]:
    """Takes a task's name apart: "dmc_cup_catch" is ("ball_in_cup", "catch").

    Raises:
        UserError: there is no such task.
    """
    name = canonical(task)
    for domain, task_name in _suite().ALL_TASKS:
        if name == f"{domain}_{task_name}":
            return domain, task_name
    raise UserError(
        f'task "{task}" is not in dm_control, which has {", ".join(tasks())}.'
    )


def canonical(task: str) -> str:
    """The suite's own name: no `dmc_`, and `ball_in_cup` for V1's and V2's `cup`."""
    name = task.removeprefix("dmc_")
    return f"ball_in_{name}" if name.startswith("cup_") else name


@functools.cache
def _suite() -> Any:
    """dm_control.suite, imported on first use (seconds), without graphics."""
    try:
        with gl.without():
            from dm_control import suite
    except Exception as error:
        raise UserError(
            f"dm_control cannot be imported ({type(error).__name__}: {error}); "
            f"{_VERSIONS}."
        ) from error
    return suite
