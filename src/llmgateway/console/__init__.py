"""The page for people: playground, services, status; rendered here, without a build and without an outside host."""
