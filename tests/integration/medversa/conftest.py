"""One thread for each test process: several at once on few cores would wait for each other's threads."""

from __future__ import annotations

import torch

torch.set_num_threads(1)
