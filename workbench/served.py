"""The app behind one page of `workbench serve`: `python -m workbench.served HOME`."""

import sys
from pathlib import Path

from workbench.app import WorkbenchApp

if __name__ == "__main__":
    WorkbenchApp(Path(sys.argv[1])).run()
