"""policies.yaml: types, model, loader, watcher."""
