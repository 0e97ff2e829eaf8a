"""Acting with the older parameters that the official DreamerV3 acts with."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Values = dict[str, np.ndarray]


class Delayed:
    """The policy of an agent, with parameters of some decisions ago.

    The official code copies them before the first update since the last decision, and
    takes the copy into use after the next decision (`pending_sync` in
    embodied/jax/agent.py, danijar/dreamerv3 @ e3f0224). So a decision knows nothing of
    the updates that followed the two decisions before it.

    Args:
      agent: its `params` are exchanged while it decides, and are the newest otherwise.
    """

    def __init__(self, agent: Any):
        self._agent = agent
        self._used = self._newest()
        self._copied: Values | None = None  # in use after the next decision

    def policy(self, *arguments: Any) -> tuple[np.ndarray, dict]:
        """As `Agent.policy`."""
        newest = self._newest()
        self._assign(self._used)
        try:
            return self._agent.policy(*arguments)
        finally:
            self._assign(newest)
            if self._copied is not None:
                self._used, self._copied = self._copied, None

    def before_update(self) -> None:
        """Must be called before each update of the agent."""
        if self._copied is None:
            self._copied = self._newest()

    def state_dict(self) -> dict[str, Values | None]:
        """What a continued run needs."""
        return {"used": self._used, "copied": self._copied}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores `state_dict`.

        Raises:
          KeyError, ValueError: it is of another agent.
        """
        for values in (state["used"], state["copied"]):
            if values is not None and values.keys() != self._used.keys():
                raise ValueError("the parameters for acting are of another agent")
        self._used, self._copied = state["used"], state["copied"]

    def _newest(self) -> Values:
        # A copy: on some backends the array would be the variable's own memory.
        return {name: np.array(x) for name, x in self._agent.params.items()}

    def _assign(self, values: Values) -> None:
        for name, variable in self._agent.params.items():
            variable.assign(values[name])
