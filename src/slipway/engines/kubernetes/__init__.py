"""The engine of many machines."""
