"""Asks the service of this container whether it is ready: `python -m app.healthcheck`, exit code 0 or 1.

For images, which have no curl. Nothing but the standard library is imported, so that a probe costs no second of a core.
"""

import http.client
import os
import sys
import urllib.error
import urllib.request

_TIMEOUT_S = 4.0


def is_ready(port: str) -> bool:
    """Whether /readyz of this machine answers 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=_TIMEOUT_S) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, http.client.HTTPException, OSError, ValueError):
        return False


def main() -> None:
    """Exit with 0 when the service is ready, with 1 when it is not or does not answer."""
    # The order of `serve --port`: images set PORT, so INTERSCAN_PORT has to come first here too.
    sys.exit(0 if is_ready(os.environ.get("INTERSCAN_PORT") or os.environ.get("PORT") or "8000") else 1)


if __name__ == "__main__":
    main()
