"""The inventory of a testbed in one TOML file: machines, their roles, hooks, scenario and reservation."""
