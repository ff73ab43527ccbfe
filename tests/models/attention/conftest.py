import sys
from pathlib import Path

# The loops every test here compares with.
sys.path.insert(0, str(Path(__file__).parent))
