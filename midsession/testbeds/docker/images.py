"""The images in which our own programs run. `MIDSESSION_TAG` names their tag, for two checkouts on one engine."""

from __future__ import annotations

import os

_TAG = os.environ.get("MIDSESSION_TAG", "local")
BUILD = "`make images` in a clone of Midsession"
"""What there is to do where they are not there."""
SERVER_IMAGE, CLIENT_IMAGE = f"midsession-server:{_TAG}", f"midsession-client:{_TAG}"
