"""What can happen to a run, done to it on purpose.

    python -m tests.faults --kills=50 --jobs=2

Kills real runs of all versions with SIGKILL at random moments, and a run of a fake
agent before every change that it makes to a file or directory (`tests.fault_events`);
flips and cuts bytes in every file, fills a small disk and makes it read-only. Each time
the same command has to continue, and to end like a run without faults. Prints one
table.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
SMALL = {
    "v1": "--deter_size=16 --stoch_size=4 --num_units=16 --horizon=3 --batch_size=2 "
    "--batch_length=8 --prefill=60 --train_every=20 --train_steps=4 --cnn_depth=4",
    "v2": "--rssm.deter=16 --rssm.hidden=16 --rssm.stoch=4 --imag_horizon=3 "
    "--dataset.batch=2 --dataset.length=8 --replay.minlen=8 --replay.maxlen=8 "
    "--prefill=60 --train_every=5",
    "v3": "--dyn.deter=16 --dyn.hidden=16 --dyn.stoch=4 --dyn.classes=4 "
    "--batch_size=2 --batch_length=8 --imag_length=3 --imag_last=0 --train_ratio=4",
}
TOY = "--length=20 --steps=800 --repeat=1"
CARTPOLE = "--task=cartpole_swingup --length=80 --steps=3200 --repeat=4 --workers=2"
# version, benchmark, more flags
RUNS = (
    ("v1", "toy", TOY),
    ("v2", "toy", TOY),
    ("v3", "toy", TOY),
    ("v1", "toy_vision", TOY),
    ("v2", "toy_vision", TOY),
    ("v3", "toy_vision", TOY),
    ("v3", "dmc_proprio", CARTPOLE),
)


@dataclasses.dataclass(frozen=True)
class Row:
    """One line of the table."""

    fault: str
    found: str
    passed: int
    failed: int


def check(fault: str, found: str, ok: bool) -> Row:
    return Row(fault, found, int(ok), int(not ok))


# --- Killing ------------------------------------------------------------------


def command(version: str, benchmark: str, more: str, path: Path) -> list[str]:
    """A run that takes about half a minute, and is saved all the time."""
    common = (
        f"train --version={version} --benchmark={benchmark} --protocol=lite --envs=2 "
        "--log_every=50 --eval_every=300 --eval_episodes=2 --save_every=0.2 "
        "--video_every=0 --jit=False"
    )
    flags = f"{common} {SMALL[version]} {more} --logdir={path}"
    return [sys.executable, str(ROOT / "run.py"), *flags.split()]


def start(arguments: list[str], log: Path) -> subprocess.Popen:
    alone = {f"{name}_THREADS": "1" for name in ("OMP_NUM", "TF_NUM_INTRAOP")}
    alone |= {"TF_NUM_INTEROP_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with open(log, "ab") as file:
        return subprocess.Popen(
            arguments, stdout=file, stderr=file, cwd=ROOT, env=os.environ | alone
        )


def kill_at_random(run: tuple, kills: int, seed: int, folder: Path) -> Row:
    """Kills a run `kills` times, lets it end, compares with one left alone."""
    from tests.runs import everything

    version, benchmark, more = run
    name = f"{version}-{benchmark}"
    whole, killed = folder / f"{name}-whole", folder / f"{name}-killed"
    log = folder / f"{name}.log"
    if start(command(version, benchmark, more, whole), log).wait():
        return Row(f"SIGKILL, {name}", f"it does not even run, see {log}", 0, kills)
    rng, moments = random.Random(seed), []
    steps = int(re.findall(r"--steps=(\d+)", more)[0])
    while len(moments) < kills:
        process = start(command(version, benchmark, more, killed), log)
        # Every fifth time during the start, else after some progress; and then at any
        # moment between two checkpoints, or while one is written.
        if rng.random() < 0.2:
            delay = rng.uniform(0, 15)
        else:
            goal = _frames(killed) + rng.uniform(0, 1.5 * steps / kills)
            while process.poll() is None and _frames(killed) < goal:
                time.sleep(0.05)
            delay = rng.uniform(0, 1)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(delay)
        if process.poll() == 0:
            shutil.rmtree(killed)  # it ended before: once more from the beginning
            continue
        process.send_signal(signal.SIGKILL)
        if process.wait() != -signal.SIGKILL:
            return Row(f"SIGKILL, {name}", f"it died by itself, see {log}", 0, kills)
        moments.append(_frames(killed))
    if start(command(version, benchmark, more, killed), log).wait():
        return Row(f"SIGKILL, {name}", f"it does not go on, see {log}", 0, kills)
    other = differences(everything(whole), everything(killed))
    found = f"at {', '.join(map(str, moments))} frames saved: "
    found += f"{', '.join(other)} differ" if other else "all equal"
    return Row(f"SIGKILL, {name}", found, 0 if other else kills, kills if other else 0)


def _frames(path: Path) -> int:
    from dreamer_tf.training import checkpoint, logdir

    return checkpoint.saved_frames(path / logdir.CHECKPOINTS)


def differences(one: dict, other: dict) -> list[str]:
    """Names of what is not the same, bit for bit."""
    names = []
    for name in sorted(one.keys() | other.keys()):
        try:
            np.testing.assert_equal(one.get(name), other.get(name))
        except AssertionError:
            names.append(name)
    return names


# --- Damaging files -----------------------------------------------------------


def fake_train(path: Path, steps: int = 60) -> str:
    """A run of a fake agent, which takes no time; returns what it said."""
    from dreamer_tf.configs.run import RunConfig
    from dreamer_tf.training.terminal import Terminal
    from dreamer_tf.training.train import train
    from tests import fakes

    said = io.StringIO()
    run = RunConfig(logdir=str(path), steps=steps, log_every=10, envs=2)
    run = dataclasses.replace(run, eval_every=20, eval_episodes=2, replay_gb=3e-5)
    clock = iter(range(10**6)).__next__  # a checkpoint after every seventh decision
    run = dataclasses.replace(run, save_every=7.0)
    config = fakes.Config(prefill=6, ratio=0.5)
    train(run, config, [], fakes.make_components, Terminal(steps, said), clock)
    return said.getvalue()


def flip(path: Path, rng: random.Random) -> None:
    data = bytearray(path.read_bytes())
    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    _replace(path, bytes(data))


def cut(path: Path, rng: random.Random) -> None:
    data = path.read_bytes()
    _replace(path, data[: rng.randrange(len(data))])


def _replace(path: Path, data: bytes) -> None:
    """In place: what other checkpoints link to is damaged there too."""
    with open(path, "r+b") as file:
        file.write(data)
        file.truncate()


def damaged_files(seed: int, folder: Path, alike: int | None = None) -> Iterator[Row]:
    """Flips a bit in, and cuts, each file of a run of which two thirds are done.

    Args:
      alike: how many files of one kind, such as replay chunks; None: all.
    """
    from dreamer_tf.errors import UserError
    from dreamer_tf.training import checkpoint, logdir, logs
    from tests.runs import everything, state

    rng = random.Random(seed)
    fake_train(folder / "whole", 60)
    fake_train(folder / "start", 40)
    expected = everything(folder / "whole")
    saved = checkpoint.latest(folder / "start" / logdir.CHECKPOINTS)
    done: dict[str, int] = {}
    for file in sorted(f for f in (folder / "start").rglob("*") if f.is_file()):
        inside = file.relative_to(folder / "start")
        if not file.stat().st_size or inside.parts[1:2] == (_older(saved),):
            continue
        kind = _kind(inside)
        done[kind] = done.get(kind, 0) + 1
        if alike and done[kind] > alike:
            continue
        for damage in (flip, cut):
            path = folder / "case"
            shutil.rmtree(path, ignore_errors=True)
            # As `cp -a` does: the two checkpoints share files.
            subprocess.run(["cp", "-a", folder / "start", path], check=True)
            damage(path / inside, rng)
            shared = (path / inside).stat().st_nlink > 1
            what = f"{damage.__name__} {kind}"
            try:
                said = fake_train(path)
            except UserError as error:
                ok = inside.name == logdir.CONFIG and (
                    "is damaged" in str(error) or "of another config" in str(error)
                )
                yield check(what, str(error).replace(str(path), "RUN"), ok)
                continue
            if inside.name in (logs.METRICS, logs.SCORES):
                other = differences(state(folder / "whole"), state(path))
                ok = "is not what this run wrote" in said and not other
                yield check(what, f"said so; the rest: {_equal(other)}", ok)
                continue
            other = differences(expected, everything(path))
            if inside.parts[0] == logdir.CHECKPOINTS and shared:
                ok = "Went on without them" in said
                yield check(what, "dropped from the replay, said so, ended", ok)
            elif inside.parts[0] == logdir.CHECKPOINTS:
                ok = not other and (
                    "Skipped a checkpoint" in said or "cannot be read" in said
                )
                yield check(what, f"older one taken; {_equal(other)}", ok)
            else:
                yield check(what, _equal(other), not other)


def _kind(file: Path) -> str:
    """Its name, without numbers that differ from run to run."""
    return re.sub(r"tfevents.*", "tfevents", re.sub(r"\d+-\d+", "*", file.as_posix()))


def merged(rows: Iterable[Row]) -> list[Row]:
    """Rows of the same fault and finding as one, with their sums."""
    sums: dict[tuple[str, str], list[int]] = {}
    for row in rows:
        entry = sums.setdefault((row.fault, row.found), [0, 0])
        entry[0] += row.passed
        entry[1] += row.failed
    return [Row(*key, *entry) for key, entry in sums.items()]


def _older(newest: Path) -> str:
    number = int(newest.name.split("-")[0]) - 1
    (path,) = newest.parent.glob(f"{number:06d}-*")
    return path.name


def _equal(other: list[str]) -> str:
    return f"{', '.join(other)} differ" if other else "all equal"


# --- Disks --------------------------------------------------------------------


def disks(folder: Path) -> list[Row]:
    """Runs `on_a_small_disk` where mounting is allowed: in a user namespace."""
    try:
        inside = subprocess.run(
            ["unshare", "-rm", sys.executable, "-m", "tests.faults", "--disk", folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
        )
    except FileNotFoundError:
        inside = None
    if inside is None or "unshare" in inside.stderr:
        return [Row("small disk", "skipped: this machine lets nobody mount one", 0, 0)]
    try:
        return [Row(**row) for row in json.loads(inside.stdout.splitlines()[-1])]
    except (IndexError, ValueError):
        return [Row("small disk", inside.stderr[-500:], 0, 1)]


def on_a_small_disk(folder: Path) -> Iterator[Row]:
    """Fills a tmpfs, makes it larger, read-only, and writable again."""
    from dreamer_tf.training import checkpoint, logdir
    from tests.runs import everything

    disk = folder / "disk"
    disk.mkdir(parents=True)
    path = disk / "run"

    def mount(options: str) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", disk], check=True
        )

    fake_train(folder / "whole", 60)
    mount("size=1m")
    fake_train(path, 20)
    for what, options, sentence in (
        ("disk full", "remount,size=1m", "No space left on device"),
        ("disk read-only", "remount,ro,size=64m", "Read-only file system"),
    ):
        before = everything(path)
        filler = disk / "filler"
        if what == "disk full":
            with contextlib.suppress(OSError), open(filler, "wb", 0) as file:
                while file.write(bytes(4096)):
                    pass
        mount(options)
        error = _sentence(lambda: fake_train(path, 60))
        yield check(what, error, sentence in error)
        same = not differences(before["agent"], everything(path)["agent"])
        checkpoint.verify(checkpoint.latest(path / logdir.CHECKPOINTS))
        yield check(f"{what}: last checkpoint", "intact" if same else "lost", same)
        mount("remount,rw,size=64m")
        filler.unlink(missing_ok=True)
    fake_train(path, 60)
    other = differences(everything(folder / "whole"), everything(path))
    yield check("disk large and writable again", _equal(other), not other)


def _sentence(act: Callable[[], object]) -> str:
    from dreamer_tf.errors import UserError

    try:
        act()
    except UserError as error:
        return str(error)
    return "it ended as if nothing had happened"


# --- All of it ----------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50, help="of real runs, in all")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and bytes")
    parser.add_argument("--disk", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.disk:
        print(json.dumps([dataclasses.asdict(r) for r in on_a_small_disk(given.disk)]))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="faults-"))
    print(f"In {folder}; the table comes at the end.", flush=True)
    rows: list[Row] = []
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        shares = [len(range(i, given.kills, len(RUNS))) for i in range(len(RUNS))]
        killed = [
            pool.submit(kill_at_random, run, share, given.seed + number, folder)
            for number, (run, share) in enumerate(zip(RUNS, shares))
            if share
        ]
        for future in killed:
            rows.append(future.result())
            print(rows[-1], flush=True)
    from tests import fault_events

    (folder / "events").mkdir()
    for what in fault_events.STARTS:
        found = fault_events.kill_at_events(what, folder / "events")
        rows.append(Row(f"SIGKILL at every event, {what}", *found))
    (folder / "files").mkdir()
    rows += merged(damaged_files(given.seed, folder / "files"))
    rows += disks(folder / "disks")
    width = max(len(row.fault) for row in rows)
    for row in rows:
        mark = f"{row.failed} FAILED" if row.failed else f"{row.passed} ok"
        print(f"{row.fault:<{width}}  {mark:<9}  {row.found}")
    passed, failed = (sum(getattr(r, n) for r in rows) for n in ("passed", "failed"))
    print(f"{passed} passed, {failed} failed")
    if not failed:
        shutil.rmtree(folder)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
