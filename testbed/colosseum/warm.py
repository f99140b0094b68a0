"""`python -m testbed.colosseum.warm EXPERIMENT`: loads what a run needs, and ends.

A node of a batch job does this before it reports READY, so that start.sh finds Python's modules and the
model's weights in the machine's memory. It prints the versions of what it loaded, for the merged run folder.
"""

import json
import sys
from pathlib import Path

from splitfl.core.errors import SplitflError
from splitfl.run_folder.create import environment
from splitfl.setup.experiment import Experiment
from splitfl.setup.experiment_file import load


def main() -> None:
    """Loads the experiment's data and whole model; ends with one line and exit status 1 if it cannot."""
    try:
        Experiment.of(load(Path(sys.argv[1]))).whole()
    except SplitflError as error:
        sys.exit(str(error))
    print(json.dumps({"versions": environment("warm")["versions"]}))


if __name__ == "__main__":
    main()
