"""Document services in the database: services, flavors, prompts, types, presets, templates."""
