"""`python -m upstream_stub.demo`: the property service with the sidecar in front of it, until Ctrl-C."""

import signal
import sys
from pathlib import Path

from upstream_stub.processes import StartFailed, service, sidecar, wait_for_any, wait_until_ready

POLICIES = Path("policies.yaml")
PORT = 3000
ADMIN_PORT = 9901
"""As in the policies file."""


def main() -> int:
    """Runs both; 0 after Ctrl-C or SIGTERM, 1 when one of them could not start or ended by itself."""
    for number in (signal.SIGINT, signal.SIGTERM):  # SIGINT too: a shell's background jobs start with it ignored
        signal.signal(number, signal.default_int_handler)
    try:
        with service(PORT) as url, sidecar(POLICIES, url) as process:
            wait_until_ready(process, "127.0.0.1", ADMIN_PORT)
            print(f"The sidecar stands in front of {url}. Try: curl -i localhost:8080/properties/1", file=sys.stderr)
            wait_for_any()
    except KeyboardInterrupt:
        return 0
    except StartFailed as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
