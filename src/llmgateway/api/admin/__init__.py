"""What administrators read and write. Who they are was found out before (`middleware/auth`); each route asks again."""
