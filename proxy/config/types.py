"""The scalar types of policies.yaml. Contract only: the config package's author fills this in."""
