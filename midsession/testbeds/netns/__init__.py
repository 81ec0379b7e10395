"""The netns testbed: a host is a network namespace on a private bridge. No Docker, no root.

`testbed` is what the runner knows, `template` the warm process that it orders worlds from. Importing this package is
cheap on purpose: the warm process imports it, and so does whoever starts one ahead of everything else (`warmth`).
"""
