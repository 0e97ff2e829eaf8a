"""The grid on a Ray cluster of two nodes, one of which is lost."""

import io
import sys

import pytest

from dreamer_tf.errors import UserError
from reproductions import cluster, launch
from reproductions.board import Board
from reproductions.cells import DONE, FAILED, is_done
from tests.reproductions import standin
from tests.reproductions.grids import alive, cells, pids, results, starts
from tests.reproductions.grids import run as run_locally

pytestmark = pytest.mark.timeout(120)


def test_a_missing_ray_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        UserError, match=r"^--launcher=ray needs Ray: .*-cluster.txt\.$"
    ):
        cluster.Cluster("", 1, 0, 2, None)


@pytest.mark.parametrize("address", ["auto", "localhost:1"])
def test_no_cluster_at_the_address(address):
    pytest.importorskip("ray", reason="needs requirements-cluster.txt")
    with pytest.raises(UserError, match=f"--ray_address={address} is no cluster that"):
        cluster.Cluster(address, 1, 0, 2, None)


@pytest.fixture
def two_nodes():
    """A cluster with one CPU on each of two nodes, both on this machine."""
    ray = pytest.importorskip("ray", reason="needs requirements-cluster.txt")
    from ray.cluster_utils import Cluster

    # The head has no CPU: it holds the driver and survives.
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [made.add_node(num_cpus=1) for _ in range(2)]
    yield made, nodes
    ray.shutdown()
    made.shutdown()


def test_a_node_is_lost(two_nodes, tmp_path):
    made, nodes = two_nodes
    out, other = tmp_path / "ray", tmp_path / "local"
    launcher = cluster.Cluster(made.address, 1, 0, 2, None)
    assert launcher.slots() == 2
    board = Board(2, io.StringIO())

    def show(states, slots):
        board.show(states, slots)
        learned = any(status.frames for status in states.values())
        if len(nodes) == 2 and len(pids(out)) == 2 and learned:
            made.remove_node(nodes.pop(), allow_graceful=False)

    result = launch.run(
        cells(), out, launcher, 2, show, standin.command("--pause=0.4"), pause=0.1
    )
    assert {s.state for s in result.values()} == {DONE}
    assert len(nodes) == 1
    # The cell of the lost node was started twice, the others once.
    assert sorted(len(starts(cell, out)) for cell in cells()) == [1, 1, 1, 2]
    assert not any(map(alive, pids(out)))

    run_locally(other)
    assert results(out) == results(other)


def test_mistakes_are_not_retried_and_stop_ends_runs(two_nodes, tmp_path):
    made, _ = two_nodes
    launcher = cluster.Cluster(made.address, 0.5, 0, 2, 3)
    assert launcher.slots() == 3
    wrong, slow = cells(["v3"])
    (wrong.path(tmp_path) / "thesis").mkdir(parents=True)

    def show(states, slots):
        if states[wrong].state == FAILED and pids(tmp_path):
            raise KeyboardInterrupt

    command = standin.command("--pause=1")
    with pytest.raises(KeyboardInterrupt):
        launch.run([wrong, slow], tmp_path, launcher, 2, show, command, pause=0.1)
    assert wrong.log(tmp_path).read_text().count("$ ") == 1
    assert not any(map(alive, pids(tmp_path)))
    assert not is_done(slow, tmp_path)

    launcher._ray.shutdown()
    with pytest.raises(UserError, match=r"--cpus=2 and --gpus=0 are more than any"):
        cluster.Cluster(made.address, 2, 0, 2, None)
