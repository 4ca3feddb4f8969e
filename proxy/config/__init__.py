"""policies.yaml: types, model, loader, watcher."""

import os

# pydantic would look for plugins in the metadata of every installed package, which takes longer than to load the file.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "true")
