"""Configuration: sections, checks, resolution of overrides, strict YAML."""
