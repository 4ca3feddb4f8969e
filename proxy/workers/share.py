"""How a worker gets its share of the configuration: as text within a message, from the process that started it."""

import base64
import pickle

from proxy.config.model import Config


def pack(config: Config) -> str:
    """The configuration, secrets and all, for a worker's own control channel and nobody else."""
    return base64.b64encode(pickle.dumps(config)).decode()


def unpack(text: str) -> Config:
    """What `pack` was given. Only for what the supervisor has sent: unpickling trusts its source."""
    config: Config = pickle.loads(base64.b64decode(text))  # noqa: S301 - from our parent process
    return config
