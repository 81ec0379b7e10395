"""The fleet: a program that plays many clients in one process (`python -m client`)."""
