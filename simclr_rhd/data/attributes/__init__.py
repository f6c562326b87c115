"""Attributes of the frames beside their classes: sites, devices, ages, and the user's own split."""
