"""What document services are made of, read and written: services, flavors, prompts, types, presets, templates."""
