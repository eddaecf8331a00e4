"""What runs one claimed job to its end: asks what its pipeline asks for, and writes each answer down."""
