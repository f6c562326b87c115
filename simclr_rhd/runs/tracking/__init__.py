"""Programs that show runs beside each other while they go on."""
