"""Those who run jobs in this process: woken in it, or by a broker."""
