"""One run of DreamerV1, V2 or V3: train, evaluate, video, export; doctor.

`python run.py --help` shows how; the commands are in `dreamer_tf/command.py`. After
`pip install .` they are also there as `dreamer-tf`.
"""

import sys

try:
    from dreamer_tf.command import main, run_program
except ModuleNotFoundError as error:
    if sys.argv[1:2] != ["doctor"]:
        doctor = "python run.py doctor says what is missing"
        print(f"run.py: {error}: {doctor}.", file=sys.stderr)
        sys.exit(2)
    # It needs only what comes with Python.
    from dreamer_tf.tools.doctor import main as doctor_main

    sys.exit(doctor_main(sys.argv[2:]))

__all__ = ["main"]

if __name__ == "__main__":
    run_program(main)
