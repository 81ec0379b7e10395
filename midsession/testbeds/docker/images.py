"""The images in which our own programs run. `MIDSESSION_TAG` names their tag, for two checkouts on one engine."""

from __future__ import annotations

import os

_TAG = os.environ.get("MIDSESSION_TAG", "local")
SERVER_IMAGE, CLIENT_IMAGE = f"midsession-server:{_TAG}", f"midsession-client:{_TAG}"
